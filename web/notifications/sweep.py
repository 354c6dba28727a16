"""The sweep: each second, what the outbox has due and no task was made for, or only one that was lost.

Now and then it also forgets what was done with long ago.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from dramatiq.errors import DramatiqError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from web.data.postgres import DATABASE_AWAY, Database
from web.notifications import outbox

log = logging.getLogger(__name__)

PERIOD = 1.0
ON_ITS_WAY = 10
"""Seconds in which a row that was swept is not swept again."""
TIDYING = 3600.0
"""Seconds between two times at which old rows are deleted."""


async def forever(db: Database, redis: Redis, enqueue: Callable[[Sequence[int]], None]) -> None:
    """Sweep until cancelled; while PostgreSQL or Redis is away, say so once."""
    away = False
    tidy_at = time.monotonic()
    while True:
        try:
            if ids := await forgotten(db, redis):
                await asyncio.to_thread(enqueue, ids)
            if time.monotonic() >= tidy_at:
                tidy_at = time.monotonic() + TIDYING  # also where it fails: nothing hangs on it
                async with db.begin() as connection:
                    if await outbox.forget_old(connection):
                        tidy_at = time.monotonic()  # there may be more
            away = False
        except (*DATABASE_AWAY, RedisError, DramatiqError) as error:
            if not away:
                log.warning("Nothing can be swept until PostgreSQL and Redis are there: %s", error)
            away = True
        await asyncio.sleep(PERIOD)


async def forgotten(db: Database, redis: Redis) -> list[int]:
    """Rows that are due, and that no worker swept in the last ten seconds."""
    async with db() as connection:
        due = await outbox.due(connection)
    async with redis.pipeline(transaction=False) as pipe:
        for notification_id, since in due:
            # The mark lives where the queue lives, so whatever wipes the one wipes the other.
            pipe.set(f"swept:{notification_id}:{since.timestamp()}", 1, nx=True, ex=ON_ITS_WAY)
        marked = await pipe.execute()
    return [notification_id for (notification_id, _), new in zip(due, marked, strict=True) if new]
