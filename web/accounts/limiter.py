"""Limits on guessing passwords and on making accounts, counted by account, by device and by address."""

import time
from typing import Any, cast

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

FAILURES = parse("10 per 15 minutes")
"""For one account, from one address or from one of its known devices."""
FAILURES_OF_AN_ADDRESS = parse("30 per 15 minutes")
"""Whatever the account."""
FAILURES_OF_AN_ACCOUNT = parse("100 per day")
"""From all strangers together."""
LOGINS = parse("30 per 15 minutes")
"""Right passwords for one account, from one address."""
SIGN_UPS = (parse("50 per hour"), parse("100 per day"))
"""From one address, which an office or a school may share."""

Key = tuple[RateLimitItem, str, *tuple[str, ...]]
"""A limit, and what it counts by."""


class Limiter:
    """Counts in Redis; while Redis is away, in this process."""

    def __init__(self, pool: ConnectionPool, *, is_on: bool) -> None:
        shared = RedisStorage("async+redis://", implementation="redispy", connection_pool=cast(Any, pool))
        self._shared = FixedWindowRateLimiter(shared)
        self._own = FixedWindowRateLimiter(MemoryStorage())
        self._is_on = is_on

    async def wait(self, *keys: Key) -> int:
        """Count an attempt by every key. Returns the seconds to wait, 0 if it may go on."""
        if not self._is_on:
            return 0
        for limiter in (self._shared, self._own):
            try:
                return max([await _hit(limiter, *key) for key in keys])
            except (RedisError, OSError):
                continue
        return 0

    async def succeed(self, *keys: Key) -> None:
        """The attempt was right: forget it by each key, and by the first one the failures before it too."""
        if not self._is_on:
            return
        first, *others = keys
        for limiter in (self._shared, self._own):
            try:
                await limiter.clear(*first)
                for limit, *by in others:
                    await limiter.hit(limit, *by, cost=-1)
                return  # only here it was counted
            except (RedisError, OSError):
                continue  # it counts until its time is over, which is on the safe side


async def _hit(limiter: FixedWindowRateLimiter, limit: RateLimitItem, *by: str) -> int:
    if await limiter.hit(limit, *by):
        return 0
    stats = await limiter.get_window_stats(limit, *by)
    return max(1, round(stats.reset_time - time.time()))
