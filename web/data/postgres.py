"""PostgreSQL: the engine, kept connections, and `db`, the name of a SQLAlchemy session everywhere."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from sqlalchemy import MetaData, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from web.settings import Settings

Database = async_sessionmaker[AsyncSession]

DATABASE_AWAY = (
    exc.OperationalError,
    exc.InterfaceError,
    exc.TimeoutError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    ConnectionError,
    TimeoutError,
)
"""What SQLAlchemy, the driver and the network raise while PostgreSQL is away."""


class Base(DeclarativeBase):
    """Names constraints by one rule, so that a migration can name what it drops."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """An engine that notices within two seconds that PostgreSQL is gone, and reconnects by itself."""
    how: dict[str, Any] = {
        "connect_timeout": 2,
        # The kernel notices a peer that vanished silently (a frozen host, a cut cable).
        "tcp_user_timeout": 3000,
    }
    if settings.database_pooler:
        # Its connections change with every transaction, so neither settings nor prepared statements may stay on them.
        how["prepare_threshold"] = None
    else:
        how["options"] = "-c statement_timeout=10000 -c lock_timeout=3000"
    engine = create_async_engine(
        settings.database_url,
        pool_size=10,
        max_overflow=5,
        # A crowd that comes back after a restart may wait; an absent PostgreSQL is noticed by connecting.
        pool_timeout=8,
        pool_pre_ping=True,
        hide_parameters=True,  # or an error's text would show password hashes and messages
        connect_args=how,
    )
    try:
        yield engine
    finally:
        await engine.dispose()


def database(engine: AsyncEngine) -> Database:
    return async_sessionmaker(engine, expire_on_commit=False)


@dataclass(frozen=True, slots=True)
class KeptConnection:
    """A connection kept for good, since checking one out of the pool costs more than a small transaction.

    Each statement on it is a transaction. `pooled` returns it to the pool; `postgres` runs statements.
    """

    pooled: AsyncConnection
    postgres: psycopg.AsyncConnection[Any]

    @classmethod
    async def open(cls, engine: AsyncEngine, plan: str) -> Self:
        """A new one; `plan` sets how PostgreSQL plans the statements on it, unless it is a pooler's."""
        pooled = await engine.connect()
        await pooled.execution_options(isolation_level="AUTOCOMMIT")
        raw = await pooled.get_raw_connection()
        connection = cls(pooled, raw.driver_connection)  # type: ignore[arg-type]
        if connection.postgres.prepare_threshold is not None:
            await connection.postgres.execute(plan)
        return connection

    async def drop(self) -> None:
        """Close it instead of returning it, whatever state it is in."""
        await self.pooled.invalidate()
        await self.pooled.close()
