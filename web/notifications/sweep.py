"""The sweep: each second, it enqueues notifications that had to wait, or whose task was lost.

Once an hour it deletes rows that were finished long ago.
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
from web.server import heartbeat

log = logging.getLogger(__name__)

PERIOD = 1.0
ON_ITS_WAY = 10
"""Seconds for which a swept row is not swept again."""
TIDYING = 3600.0
"""Seconds between two deletions of old rows."""


async def forever(db: Database, redis: Redis, enqueue: Callable[[Sequence[int]], None]) -> None:
    """Sweep until cancelled. Each time that PostgreSQL or Redis goes away, log it once."""
    away = False
    tidy_at = time.monotonic()
    while True:
        try:
            if ids := await unswept(db, redis):
                await asyncio.to_thread(enqueue, ids)
            if time.monotonic() >= tidy_at:
                tidy_at = time.monotonic() + TIDYING  # also after a failure: there is no hurry
                async with db.begin() as connection:
                    if await outbox.forget_old(connection):
                        tidy_at = time.monotonic()  # there may be more
            away = False
            heartbeat.beat()
        except (*DATABASE_AWAY, RedisError, DramatiqError) as error:
            if not away:
                log.warning("Nothing can be swept until PostgreSQL and Redis are there: %s", error)
            away = True
        await asyncio.sleep(PERIOD)


async def unswept(db: Database, redis: Redis) -> list[int]:
    """The ids of notifications that are due and that no worker has swept in the last ten seconds."""
    async with db() as connection:
        due = await outbox.due(connection)
    async with redis.pipeline(transaction=False) as pipe:
        for row in due:
            # These marks live in the same Redis as the queue, so whatever wipes the queue wipes them too.
            pipe.set(f"swept:{row.id}:{row.due_at.timestamp()}", 1, nx=True, ex=ON_ITS_WAY)
        pipe.ping()  # also when nothing is due, to notice that Redis is away
        *marked, _ = await pipe.execute()
    return [row.id for row, is_new in zip(due, marked, strict=True) if is_new]
