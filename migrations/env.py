"""Alembic's environment: the database comes from the settings, the tables from web.data.models."""

import logging
import time

from alembic import context
from sqlalchemy import Connection, create_engine, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from web import settings
from web.data import models

MIGRATING = 0x6B6E6F636B
"""The advisory lock that one migration at a time holds: "knock" in ASCII."""


def connect(database_url: str) -> Connection:
    try:
        return create_engine(database_url, poolclass=NullPool).connect()
    except OperationalError as error:
        reason = str(error.orig).splitlines()[0]
        raise SystemExit(f"knock: PostgreSQL does not answer at DATABASE_URL: {reason}") from None


def migrate(connection: Connection) -> None:
    # Tried again and again, since waiting in a query could deadlock: a migration that builds an index concurrently
    # waits for the end of that query, and the query waits for the end of the migration.
    while not connection.scalar(select(func.pg_try_advisory_lock(MIGRATING))):
        connection.rollback()
        time.sleep(0.2)
    connection.commit()
    context.configure(connection=connection, target_metadata=models.User.metadata)
    with context.begin_transaction():
        context.run_migrations()


logging.basicConfig(level=logging.WARNING, format="%(message)s")
log = logging.getLogger("alembic.runtime.migration")
log.setLevel(logging.INFO)
log.addFilter(lambda record: str(record.msg).startswith("Running"))
with connect(settings.load().database_url) as connection:
    migrate(connection)
