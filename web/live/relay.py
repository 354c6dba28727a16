"""What follows a commit in Redis: cached lists, frames for the other processes, tasks for the worker.

Callers leave it here and go on. One pipeline is under way at a time and carries everything that came meanwhile, all
frames in one message and all lists in one call, so a slow Redis never holds a send. What a lost Redis cannot take is
dropped: a cached list that missed a change is seen by its version, a task is swept from the outbox, and for frames
every process is told afterwards to let its sockets catch up.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import orjson
from dramatiq.errors import DramatiqError
from redis.exceptions import ConnectionError, RedisError

from web import loops, tasks
from web.chat import cache
from web.chat.cache import Change
from web.data.store import PAUSE, UNAVAILABLE, Store

log = logging.getLogger(__name__)

BOUND = 10_000
"""Frames and changes of lists that wait for Redis at the most."""

FRAMES = "frames"
"""The channel of all frames. A process that drops those of users whom it does not have spends less on that than on
hearing a message of pub/sub for each frame, with a channel for each user."""
MISSED = "missed"
"""The channel on which a process says that frames were lost."""

Frame = tuple[Sequence[int], str]
"""Users, and what their pages are to be sent."""


class Relay:
    """Hands over to Redis, behind the caller's back."""

    def __init__(self, store: Store, *, missed: bool = False) -> None:
        """`missed`: frames of this process, or of the one before it, may be lost already."""
        self.process_id = secrets.token_hex(8)
        self._store = store
        self._frames: list[Frame] = []
        self._changes: list[Change] = []
        self._task_ids: list[int] = []
        self._more = asyncio.Event()
        self._more_tasks = asyncio.Event()
        self._missed = missed
        if missed:
            self._more.set()

    def publish(self, frame: Frame) -> None:
        """Leave a frame for the other processes."""
        if len(self._frames) >= BOUND:
            self._frames.clear()
            self._missed = True
        self._frames.append(frame)
        self._more.set()

    def heard(self, data: str) -> Iterable[Frame]:
        """The frames in a message of FRAMES; none in this process's own."""
        return () if data.startswith(self.process_id) else orjson.loads(data[len(self.process_id) :])

    def append(self, change: Change) -> None:
        """Leave what was added to a cached list."""
        if len(self._changes) >= BOUND:
            self._changes.clear()  # a list that misses a change is seen by its version
        self._changes.append(change)
        self._more.set()

    def enqueue(self, notification_ids: Sequence[int]) -> None:
        """Leave notifications for the worker; the sweep finds those that do not arrive."""
        if notification_ids:
            self._task_ids.extend(notification_ids)
            self._more_tasks.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with loops.loops(self._hand_over_changes, self._hand_over_tasks):
            yield
        if self._frames or self._changes:
            await self._execute()

    async def _hand_over_changes(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            if not await self._execute():
                await asyncio.sleep(PAUSE)

    async def _execute(self) -> bool:
        frames, self._frames = self._frames, []
        changes, self._changes = self._changes, []
        pipeline = self._store.client.pipeline(transaction=False)
        if self._missed:
            pipeline.publish(MISSED, "")
        if frames:
            pipeline.publish(FRAMES, self.process_id.encode() + orjson.dumps(frames))
        if changes:
            cache.append(pipeline, changes)
        try:
            answers = await pipeline.execute(raise_on_error=False)
            # A Redis that is still loading answers, but hears nothing; one that is full refuses lists, but publishes.
            if loading := [answer for answer in answers if isinstance(answer, ConnectionError)]:
                raise loading[0]
        except asyncio.CancelledError:
            # The process ends, and Redis may not have taken them. What it hears twice changes nothing.
            self._frames, self._changes = frames + self._frames, changes + self._changes
            raise
        except UNAVAILABLE as error:
            if not self._missed:
                log.warning("Redis is away: the other processes hear of changes when it is back (%s)", error)
            self._store.rest()
            self._missed = True
            self._more.set()  # to say so as soon as Redis is back, even where nobody writes
            return False
        self._missed = False
        return True

    async def _hand_over_tasks(self) -> None:
        while True:
            await self._more_tasks.wait()
            self._more_tasks.clear()
            ids, self._task_ids = self._task_ids, []
            try:
                await asyncio.to_thread(tasks.enqueue, ids)
            except (DramatiqError, RedisError, OSError) as error:
                log.warning("%d notifications wait for the worker's sweep (%s)", len(ids), error)
