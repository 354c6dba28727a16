"""How many rows a second psycopg inserts, by rows per statement and commit."""

import time

from bench.run import Run

INSERT = "INSERT INTO ceiling (n, body) SELECT * FROM unnest(%s::bigint[], %s::text[])"
BATCHES = (1, 10, 50)


def inserts(run: Run) -> None:
    seconds = 1 if run.is_quick else 3
    with run.base.postgres() as postgres:
        postgres.execute("CREATE TABLE IF NOT EXISTS ceiling (n bigint PRIMARY KEY, body text)")
        for batch in BATCHES:
            run.say(f"INSERTs of {batch} rows")
            postgres.execute("TRUNCATE ceiling")
            rows = 0
            began = time.perf_counter()
            while (elapsed := time.perf_counter() - began) < seconds:
                postgres.execute(INSERT, [list(range(rows, rows + batch)), ["x" * 120] * batch])
                rows += batch
            run.record("rows inserted, one connection", f"psycopg, {batch} a commit", rows / elapsed, "rows/s")
