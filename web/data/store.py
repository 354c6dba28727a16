"""Redis, which makes Knock fast and joins its processes, and which Knock can always do without."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

T = TypeVar("T")

TIMEOUT = 0.5
"""Seconds that a command may take while somebody waits for the answer."""
PATIENCE = 5.0
"""Seconds that any command may take: a machine that stalls for a moment does not mean that Redis is away."""
PAUSE = 1.0
"""Seconds without commands after one that failed."""

REDIS_AWAY = (RedisError, OSError, TimeoutError)
"""What the client and the network raise while Redis is away."""


class Store:
    """A Redis client that gives up soon, and then leaves Redis alone for a moment.

    So a frozen Redis costs one caller half a second, not each of them.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._resting_until = 0.0

    @property
    def resting(self) -> bool:
        return time.monotonic() < self._resting_until

    async def attempt(self, command: Awaitable[T]) -> T | None:
        """The command's answer, or None if Redis is away or too slow."""
        if self.resting:
            _discard(command)
            return None
        try:
            async with asyncio.timeout(TIMEOUT):
                return await command
        except REDIS_AWAY:
            self.rest()
            return None

    def rest(self) -> None:
        self._resting_until = time.monotonic() + PAUSE


def _discard(command: Awaitable[object]) -> None:
    close = getattr(command, "close", None)  # a coroutine that is never awaited would warn
    if close:
        close()


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Store]:
    """A store on the server at `url`. Connects with the first command."""
    client = redis.Redis.from_url(
        url,
        decode_responses=True,
        # With protocol 3 redis-py formats every pub/sub message for a log line that nobody reads.
        protocol=2,
        socket_timeout=PATIENCE,
        socket_connect_timeout=TIMEOUT,
        # A command whose answer got lost may have been executed, so only the caller can decide to retry.
        retry=Retry(NoBackoff(), 0),
        health_check_interval=10,
    )
    try:
        yield Store(client)
    finally:
        await client.aclose()
