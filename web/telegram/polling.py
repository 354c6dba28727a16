"""Whose turn it is to listen to Telegram, and which updates were handled."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from web.data.models import TelegramCursor

logger = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between two looks at whether the other bot is gone."""
RENUMBERED = 10_000
"""An update so far below the last one is no old one: Telegram began to count anew, as it does after a silent week."""

TRY = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
CONFIRM_SECONDS = 5


class Turn:
    """Held by one bot at a time, through a connection of its own: PostgreSQL takes it back when the process dies."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def confirm(self) -> None:
        """Raises what `DATABASE_AWAY` says where the turn may have been lost."""
        async with asyncio.timeout(CONFIRM_SECONDS):
            await self._connection.execute(text("SELECT 1"))


@asynccontextmanager
async def turn(engine: AsyncEngine, bot_id: int, stop: asyncio.Event) -> AsyncIterator[Turn | None]:
    """Wait until no other process listens for this bot; None where `stop` was set first."""
    async with engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        waiting = False
        try:
            while not stop.is_set():
                if await connection.scalar(TRY, {"name": f"knock.bot:{bot_id}"}):
                    yield Turn(connection)
                    return
                if not waiting:
                    logger.info("Another bot is listening; this one waits for its turn")
                waiting = True
                await pause(stop, PERIOD)
            yield None
        finally:
            await connection.invalidate()  # the lock is the connection's, and must not go back to the pool with it


async def is_new(db: AsyncSession, bot_id: int, update_id: int) -> bool:
    """Whether the update was not handled before; from the commit on, it was.

    Holds the cursor until then, so that two bots that listen at once, against all care, handle an update once.
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
    """Sleep, unless it is time to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
