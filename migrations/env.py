"""Alembic's environment: the database comes from the settings, the tables from web.data.models."""

import logging
import time

from alembic import context
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import Connection, create_engine, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from web import log, settings
from web.data import models
from web.settings import Settings

MIGRATING = 0x6B6E6F636B
"""The advisory lock that one migration at a time holds: "knock" in ASCII."""
LOCK_SECONDS = 3
"""How long a statement waits for a table; then everything is rolled back and tried again."""
PAUSE = 5
"""Seconds between two tries, in which the site gets on with its work."""
TRIES = 60


def connect(chosen: Settings) -> Connection:
    how: dict[str, int | None] = {"connect_timeout": 5}
    if chosen.database_pooler:
        how["prepare_threshold"] = None
    try:
        return create_engine(chosen.database_url, poolclass=NullPool, connect_args=how).connect()
    except OperationalError as error:
        reason = str(error.orig).splitlines()[0]
        raise SystemExit(f"knock: PostgreSQL does not answer at DATABASE_URL: {reason}") from None


def migrate(connection: Connection) -> None:
    for _ in range(TRIES):
        try:
            with connection.begin():
                _migrate_once(connection)
            return
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable | DeadlockDetected):
                raise
        logging.warning("Others use a table that a migration changes, so it is tried again in %d s", PAUSE)
        time.sleep(PAUSE)
    raise SystemExit(
        "knock: The tables could not be brought up to date: others keep using them, perhaps a long backup."
    )


def _migrate_once(connection: Connection) -> None:
    # The lock ends with the transaction. One of the session would stay on a pooler's connection, and hang the next run.
    while not connection.scalar(select(func.pg_try_advisory_xact_lock(MIGRATING))):
        time.sleep(0.2)
    # Whoever comes after a statement that waits for a table waits too, so it must not wait for long.
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
    context.configure(connection=connection, target_metadata=models.User.metadata)
    context.run_migrations()


chosen = settings.load()
if chosen.log_format == "json":
    log.configure(chosen)
logging.basicConfig(level=logging.WARNING, format="%(message)s")  # does nothing once a handler is there
logger = logging.getLogger("alembic.runtime.migration")
logger.setLevel(logging.INFO)
logger.addFilter(lambda record: str(record.msg).startswith("Running"))
with connect(chosen) as connection:
    migrate(connection)
