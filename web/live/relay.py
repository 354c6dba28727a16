"""What follows a commit in Redis: frames and notices for the other processes, cached lists, tasks for the worker.

Callers hand it over and go on. One pipeline runs at a time and carries everything that came meanwhile, so a slow Redis
never delays a send. What a lost Redis cannot take is dropped: a cached list that missed a change is recognised by its
version, the sweep finds a lost task in the outbox, and every process learns that frames were missed and lets its
sockets catch up.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, NamedTuple, TypeVar

import orjson
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError

from web import loops
from web.data.store import PAUSE, REDIS_AWAY, Store

log = logging.getLogger(__name__)

Change = TypeVar("Change")

BOUND = 10_000
"""Frames, and changes of lists, that wait for Redis at most."""

FRAMES = "frames"
"""The channel of all frames. Dropping those of users that a process does not have costs it less than hearing a pub/sub
message for each frame would, with a channel for each user."""
MISSED = "missed"
"""The channel on which a process says that frames were lost."""


class Frame(NamedTuple):
    """HTML for every page that these users have open."""

    users: Sequence[int]
    html: str


class Notice(NamedTuple):
    """Tells every process that something happened to what these ids name."""

    topic: str
    ids: Sequence[int | str]


class Relay(Generic[Change]):
    """Hands things over to Redis in the background."""

    def __init__(
        self,
        store: Store,
        *,
        update_lists: Callable[[Pipeline, Sequence[Change]], None],
        enqueue: Callable[[Sequence[int]], None],
        missed: bool = False,
    ) -> None:
        """`update_lists` writes changes of cached lists to a pipeline.

        `enqueue` hands notification ids to the worker; it may block, and raises OSError if it cannot. `missed`: frames
        of this process, or of the one it replaces, may be lost already.
        """
        self.process_id = secrets.token_hex(8)
        self._store = store
        self._update_lists = update_lists
        self._enqueue = enqueue
        self._frames: list[Frame] = []
        self._notices: list[Notice] = []
        self._changes: list[Change] = []
        self._task_ids: list[int] = []
        self._more = asyncio.Event()
        self._more_tasks = asyncio.Event()
        self._missed = missed
        if missed:
            self._more.set()

    def publish(self, frame: Frame) -> None:
        """Send a frame to the other processes."""
        if len(self._frames) >= BOUND:
            self._frames.clear()
            self._missed = True
        self._frames.append(frame)
        self._more.set()

    def notify(self, notice: Notice) -> None:
        """Send a notice to the other processes."""
        if len(self._notices) >= BOUND:
            self._notices.clear()
            self._missed = True
        self._notices.append(notice)
        self._more.set()

    def heard(self, data: str) -> tuple[list[Frame], list[Notice]]:
        """What another process sent in a message on FRAMES; nothing if it is our own."""
        if data.startswith(self.process_id):
            return [], []
        frames, notices = orjson.loads(data[len(self.process_id) :])
        return [Frame(*frame) for frame in frames], [Notice(*notice) for notice in notices]

    def update_list(self, change: Change) -> None:
        """Pass a change on to the cached list."""
        if len(self._changes) >= BOUND:
            self._changes.clear()  # a list that misses a change is recognised by its version
        self._changes.append(change)
        self._more.set()

    def enqueue(self, notification_ids: Sequence[int]) -> None:
        """Hand notifications to the worker; the sweep finds those that do not arrive."""
        if notification_ids:
            self._task_ids.extend(notification_ids)
            self._more_tasks.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with loops.running(self._hand_over_forever, self._enqueue_forever):
            yield
        if self._frames or self._notices or self._changes:
            await self._hand_over()

    async def _hand_over_forever(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            try:
                handed_over = await self._hand_over()
            except Exception:
                self._missed = True  # what it carried is lost
                self._more.set()
                raise
            if not handed_over:
                await asyncio.sleep(PAUSE)

    async def _hand_over(self) -> bool:
        """Hand over everything that waits. Returns whether Redis took it."""
        frames, self._frames = self._frames, []
        notices, self._notices = self._notices, []
        changes, self._changes = self._changes, []
        missed, self._missed = self._missed, False  # while Redis takes these, others may be dropped
        pipeline = self._store.client.pipeline(transaction=False)
        if missed:
            pipeline.publish(MISSED, "")
        if frames or notices:
            pipeline.publish(FRAMES, self.process_id.encode() + orjson.dumps((frames, notices), default=tuple))
        if changes:
            self._update_lists(pipeline, changes)
        try:
            answers = await pipeline.execute(raise_on_error=False)
            # A Redis that is still loading answers, but hears nothing; one that is full refuses lists, but publishes.
            if loading := [answer for answer in answers if isinstance(answer, ConnectionError)]:
                raise loading[0]
        except asyncio.CancelledError:
            # The process ends, and Redis may not have taken them. Taking them twice changes nothing.
            self._frames = frames + self._frames
            self._notices = notices + self._notices
            self._changes = changes + self._changes
            self._missed |= missed
            raise
        except REDIS_AWAY as error:
            if not missed:
                log.warning("Redis is away: the other processes hear of changes when it is back (%s)", error)
            self._store.rest()
            self._missed = True
            self._more.set()  # to say so as soon as Redis is back, even if nobody writes
            return False
        return True

    async def _enqueue_forever(self) -> None:
        while True:
            await self._more_tasks.wait()
            self._more_tasks.clear()
            ids, self._task_ids = self._task_ids, []
            try:
                await asyncio.to_thread(self._enqueue, ids)
            except OSError as error:
                log.warning("%d notifications wait for the worker's sweep (%s)", len(ids), error)
