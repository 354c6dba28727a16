"""Redis, which makes Knock fast and joins its processes, and which it can always do without."""

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
"""Seconds that a question to Redis may take while somebody waits for the answer."""
PATIENCE = 5.0
"""Seconds that anything may take: a machine that stands still for a moment is no Redis that is away."""
PAUSE = 1.0
"""Seconds without a question after one that failed."""

UNAVAILABLE = (RedisError, OSError, TimeoutError)


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

    async def ask(self, question: Awaitable[T]) -> T | None:
        """Redis's answer, or None when there is none to be had in time."""
        if self.resting:
            _discard(question)
            return None
        try:
            async with asyncio.timeout(TIMEOUT):
                return await question
        except UNAVAILABLE:
            self.rest()
            return None

    def rest(self) -> None:
        self._resting_until = time.monotonic() + PAUSE


def _discard(question: Awaitable[object]) -> None:
    close = getattr(question, "close", None)  # a coroutine that nobody awaits would warn
    if close:
        close()


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Store]:
    """A store on the server at `url`; makes no connection yet."""
    client = redis.Redis.from_url(
        url,
        decode_responses=True,
        # In the newer protocol redis-py writes out every message of pub/sub for its log, though nobody reads that.
        protocol=2,
        socket_timeout=PATIENCE,
        socket_connect_timeout=TIMEOUT,
        # A command whose answer was lost may have been carried out: trying again is the caller's to decide.
        retry=Retry(NoBackoff(), 0),
        health_check_interval=10,
    )
    try:
        yield Store(client)
    finally:
        await client.aclose()
