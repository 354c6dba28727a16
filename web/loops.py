"""Loops that run for as long as the process does.

One that ends by an error would leave a process that looks alive and does half of its work, so it ends the process, and
the supervisor replaces it: pages reconnect, and what was not acknowledged is sent again.
"""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

log = logging.getLogger(__name__)


@asynccontextmanager
async def loops(*forever: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run them until the end of the block."""
    tasks = [asyncio.create_task(loop()) for loop in forever]
    for task in tasks:
        task.add_done_callback(_ended)
    try:
        yield
    finally:
        left = set(tasks)
        while left:  # a library may swallow a cancellation that comes together with what it waits for, as redis-py does
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=1)


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.critical("%s failed, so this process ends", task.get_coro(), exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)
