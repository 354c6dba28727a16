"""PostgreSQL: the engine, and `db`, which is how the code calls a SQLAlchemy session."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from sqlalchemy import MetaData, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from web.settings import Settings

Sessions = async_sessionmaker[AsyncSession]

UNAVAILABLE = (
    exc.OperationalError,
    exc.InterfaceError,
    exc.TimeoutError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    ConnectionError,
    TimeoutError,
)
"""What is raised while PostgreSQL is away: through SQLAlchemy, by its driver, by the network."""


class Base(DeclarativeBase):
    """Constraints get names by one rule, so that a migration can name what it drops."""

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
    """An engine that finds out within two seconds that PostgreSQL is gone, and by itself that it is back."""
    engine = create_async_engine(
        settings.database_url,
        pool_size=10,
        max_overflow=5,
        # A crowd that comes back after a restart waits its turn; a PostgreSQL that is away is found out by connecting.
        pool_timeout=8,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 2,
            # A peer that vanished without a word (a frozen host, a cut cable) is noticed by the kernel.
            "tcp_user_timeout": 3000,
            "options": "-c statement_timeout=10000 -c lock_timeout=3000",
        },
    )
    try:
        yield engine
    finally:
        await engine.dispose()


def sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine, expire_on_commit=False)


@dataclass(frozen=True, slots=True)
class Line:
    """A connection that is kept, since taking one from the pool costs more than a small transaction.

    Each statement on it is a transaction. SQLAlchemy's, to give it back by, and the driver's, to ask.
    """

    kept: AsyncConnection
    postgres: psycopg.AsyncConnection[Any]

    @classmethod
    async def open(cls, engine: AsyncEngine, plan: str) -> Self:
        """A new one; `plan` has settings of how PostgreSQL is to plan what is asked on it."""
        kept = await engine.connect()
        await kept.execution_options(isolation_level="AUTOCOMMIT")
        raw = await kept.get_raw_connection()
        line = cls(kept, raw.driver_connection)  # type: ignore[arg-type]
        await line.postgres.execute(plan)
        return line

    async def drop(self) -> None:
        """Close it for good, whatever state it was left in."""
        await self.kept.invalidate()
        await self.kept.close()
