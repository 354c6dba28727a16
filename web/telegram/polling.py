"""Which process polls Telegram for updates, and which updates were handled."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from web.data.models import TelegramCursor
from web.server import heartbeat

logger = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between two attempts to take the turn from a bot that has ended."""
RENUMBERED = 10_000
"""An id so far below the last one is new: Telegram restarts its count at a random id after a week without updates."""

TRY = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
CONFIRM_SECONDS = 5


class Turn:
    """An advisory lock of a transaction that stays open, so PostgreSQL releases it when the process dies.

    A lock of the session would stay for ever on the connection of a pooler such as PgBouncer.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def confirm(self) -> None:
        """Raises DATABASE_AWAY's errors if the turn may have been lost."""
        async with asyncio.timeout(CONFIRM_SECONDS):
            await self._connection.execute(text("SELECT 1"))


@asynccontextmanager
async def turn(engine: AsyncEngine, bot_id: int, stop: asyncio.Event) -> AsyncIterator[Turn | None]:
    """Wait until no other process polls for this bot. Yields None if `stop` was set first."""
    async with engine.connect() as connection:
        waiting = False
        try:
            while not stop.is_set():
                if await connection.scalar(TRY, {"name": f"knock.bot:{bot_id}"}):
                    yield Turn(connection)
                    return
                if not waiting:
                    logger.info("Another process polls for this bot; this one waits for its turn")
                waiting = True
                heartbeat.beat()
                await pause(stop, PERIOD)
            yield None
        finally:
            await connection.invalidate()  # the lock must not go back to the pool with the connection


async def is_new(db: AsyncSession, bot_id: int, update_id: int) -> bool:
    """Whether the update was not handled before. Marks it as handled; the caller commits.

    Locks the cursor until then, so that even two bots that poll at once handle an update once.
    """
    last = TelegramCursor.update_id
    statement = insert(TelegramCursor).values(bot_id=bot_id, update_id=update_id)
    statement = statement.on_conflict_do_update(
        index_elements=["bot_id"],
        set_={"update_id": update_id},
        where=(last < update_id) | (last - RENUMBERED > update_id),
    )
    return await db.scalar(statement.returning(TelegramCursor.bot_id)) is not None


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but not beyond `stop`."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
