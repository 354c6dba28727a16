"""Slows down guessing: ten failures in fifteen minutes for one account from one address."""

import time
from typing import Any, cast

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

FAILURES: RateLimitItem = parse("10 per 15 minutes")


class Limiter:
    """Counts attempts in Redis; while Redis is away, in this process."""

    def __init__(self, pool: ConnectionPool) -> None:
        shared = RedisStorage("async+redis://", implementation="redispy", connection_pool=cast(Any, pool))
        self._shared = FixedWindowRateLimiter(shared)
        self._own = FixedWindowRateLimiter(MemoryStorage())

    async def wait(self, *key: str, rate: RateLimitItem = FAILURES) -> int:
        """Count an attempt. Returns the seconds to wait, 0 if it may go on."""
        for limiter in (self._shared, self._own):
            try:
                if await limiter.hit(rate, *key):
                    return 0
                stats = await limiter.get_window_stats(rate, *key)
                return max(1, round(stats.reset_time - time.time()))
            except (RedisError, OSError):
                continue
        return 0

    async def forget(self, *key: str) -> None:
        """The attempts succeeded, so they no longer count."""
        for limiter in (self._shared, self._own):
            try:
                await limiter.clear(FAILURES, *key)
            except (RedisError, OSError):
                continue  # they count until the fifteen minutes are over, which is on the safe side
