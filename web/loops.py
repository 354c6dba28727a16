"""Loops that run for as long as the process does. One that fails is logged and started again."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

log = logging.getLogger(__name__)

Loop = Callable[[], Coroutine[Any, Any, None]]

PAUSE = 1.0
"""Seconds until a loop that failed is started again."""


@asynccontextmanager
async def running(*loops: Loop) -> AsyncIterator[None]:
    """Runs the loops until the end of the block."""
    tasks = [asyncio.create_task(_keep_running(loop)) for loop in loops]
    try:
        yield
    finally:
        left = set(tasks)
        while left:  # a library may swallow a cancellation that arrives just as its own wait ends, as redis-py does
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=1)


async def _keep_running(loop: Loop) -> None:
    while True:
        try:
            return await loop()
        except Exception:
            log.exception("A loop failed and is started again")
            await asyncio.sleep(PAUSE)
