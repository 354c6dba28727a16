"""Ends this process when its event loop stands still, so that the supervisor replaces it instead of everybody waiting;
and when the supervisor was killed, so that no process without one keeps the port.
"""

import asyncio
import faulthandler
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

log = logging.getLogger(__name__)

BEAT = 1.0
"""Seconds between two signs of life."""
LIMIT = 8
"""Beats without one after which the process ends."""
EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h."""


@asynccontextmanager
async def watching() -> AsyncIterator[None]:
    """Watch the running loop from a thread."""
    lives, ended = threading.Event(), threading.Event()
    thread = threading.Thread(target=_watch, args=(lives, ended), name="watchdog", daemon=True)
    beating = asyncio.create_task(_beat(lives))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def _beat(lives: threading.Event) -> None:
    while True:
        lives.set()
        await asyncio.sleep(BEAT)


def _watch(lives: threading.Event, ended: threading.Event) -> None:
    """Counts its own beats and not the clock: a process that was frozen as a whole, and is thawed, goes on."""
    missed = 0
    supervisor = multiprocessing.parent_process()
    while not ended.wait(BEAT):
        if supervisor and not supervisor.is_alive():
            log.critical("The supervisor is gone, so this process ends")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        missed = 0 if lives.is_set() else missed + 1
        lives.clear()
        if missed >= LIMIT:
            log.critical("The event loop stood still for %d seconds, so this process ends", LIMIT)
            faulthandler.dump_traceback(all_threads=True)
            os._exit(EXIT_CODE)
