"""Search among a million messages, and what its index costs in space and in the writer's rate."""

import random
from typing import Any

import psycopg

from bench import contestants, load, people, ramp, servers
from bench.run import Run

CHATS, MESSAGES = 1_000, 1_000
"""Chats, and messages of each; person0 takes part in the first MINE of them."""
MINE = 20
AT_ONCE = 8
ROUNDS = 12
PANE = "HX-Request: true\r\nHX-Target: section#pane\r\n"
"""As an open page asks, which has the chat list already."""
WORDS = 20_000
"""The vocabulary. Word n comes with a chance that falls as words' chances do (Zipf)."""

FILL = """
    WITH made AS (
        INSERT INTO conversations (low_user_id, high_user_id, version, last_seq)
        SELECT least(a.id, b.id), greatest(a.id, b.id), %(messages)s, %(messages)s
        FROM generate_series(1, %(chats)s) AS n
        JOIN users AS a ON a.username = 'person' || CASE WHEN n <= %(mine)s THEN 0 ELSE 2 * n END
        JOIN users AS b ON b.username = 'person' || 2 * n + 1
        RETURNING *
    ), taking AS (
        INSERT INTO participants (conversation_id, user_id, active_at, read_seq)
        SELECT id, unnest(ARRAY[low_user_id, high_user_id]), now(), %(messages)s FROM made
    )
    INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at, readers)
    SELECT made.id, n, n, low_user_id, 'n' || n, (
            SELECT string_agg(left(md5(floor(%(words)s ^ random())::text), 3 + (n + word) %% 6), ' ')
            FROM generate_series(1, 8 + n %% 9) AS word
        ), now() - (%(messages)s - n) * interval '1 minute', ARRAY['user ' || low_user_id, 'user ' || high_user_id]
    FROM made CROSS JOIN generate_series(1, %(messages)s) AS n
"""
DEFINED = "SELECT pg_get_indexdef('ix_messages_search'::regclass)"
DROPPED = "DROP INDEX ix_messages_search"
SIZES = """
    SELECT pg_relation_size('ix_messages_search'), sum(pg_column_size(body)), pg_relation_size('messages') FROM messages
"""
FOUND = """
    SELECT body FROM messages JOIN participants USING (conversation_id) JOIN users ON users.id = user_id
    WHERE username = 'person0'
"""


def search(run: Run) -> None:
    chats = CHATS // 10 if run.is_quick else CHATS
    with servers.base() as base, base.postgres() as postgres:
        run.say(f"{chats * MESSAGES:,} messages")
        people.make(postgres, 2 * CHATS + 2)
        (index,) = _row(postgres, DEFINED)
        postgres.execute(DROPPED)
        postgres.execute(FILL, {"chats": chats, "messages": MESSAGES, "mine": MINE, "words": WORDS})
        postgres.execute(index)
        postgres.execute("VACUUM ANALYZE")
        index_bytes, body_bytes, table_bytes = _row(postgres, SIZES)
        run.record(
            "size of the search's index against the messages' table", "Knock", 100 * index_bytes / table_bytes, "%"
        )
        run.record(
            "size of the search's index against the texts alone", "Knock", 100 * index_bytes / int(body_bytes), "%"
        )
        bodies = [row[0] for row in postgres.execute(FOUND)]
        _searches(run, base, postgres, bodies)
        rates: dict[str, list[float]] = {"with": [], "without": []}
        for _ in range(1 if run.is_quick else 3):
            postgres.execute(DROPPED)
            postgres.execute("CHECKPOINT")
            rates["without"].append(_rate(run, base))
            postgres.execute(index)
            postgres.execute("CHECKPOINT")
            rates["with"].append(_rate(run, base))
        shares = sorted(mine / other for mine, other in zip(rates["with"], rates["without"], strict=True))
        share = 100 * shares[len(shares) // 2]
        run.record("highest rate with the search's index against without", "Knock", share, "%", rates=rates)


def _searches(run: Run, base: servers.Base, postgres: psycopg.Connection, bodies: list[str]) -> None:
    """Searches of one and of two words that person0 has read, 8 at once."""
    cookie = people.cookies(postgres, base.settings, [people.name(0)])[0]
    chosen = random.Random(1)
    taken: list[float] = []
    with servers.knock(base, 2) as server, load.running("bench.browsers") as browsers:
        for number in range(ROUNDS):
            run.say(f"searches, {number + 1} of {ROUNDS}")
            requests = []
            for _ in range(AT_ONCE):
                words = chosen.sample(chosen.choice(bodies).split(), 1 + number % 2)
                path = f"/search?q={'+'.join(words)}"
                requests.append(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{PANE}Cookie: {cookie}\r\n\r\n")
            job: dict[str, Any] = {"requests": requests, "expected": 'class="people hits"', "count": 1}
            found = browsers.do("fetch", host="127.0.0.1", port=server.port, seconds=2, clients=AT_ONCE, **job)
            taken.append(found["p95"])
    run.record(f"search, {AT_ONCE} at once, p95", "Knock", sorted(taken)[-1], "ms", rounds=taken)


def _rate(run: Run, base: servers.Base) -> float:
    with contestants.racing(base, "knock", 200) as race:
        return float(ramp.highest(run, race).answer["rate"])


def _row(postgres: psycopg.Connection, query: str) -> Any:
    return postgres.execute(query).fetchone()
