"""The chat lists of open pages: lines that changed, told of a few times a second, or less often where there are many.

Nobody reads a list as fast as messages can come, and one that moves with each of them costs both ends more than the
messages do. A line is read in PostgreSQL when its time has come, and so is what it is then.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from web import loops
from web.chat import fragments, lists
from web.chat.lists import Entry
from web.data.postgres import UNAVAILABLE
from web.data.questions import Reader
from web.live.hub import Hub

PAUSE = 0.25
"""Seconds between two times at which pages are told; what changes after such a pause is told of at once."""
TURN = 32
"""Lines that are told of at a time."""
REST = 7
"""Times as long as a turn took until the next one: a crowd's messages go before the lines of its lists."""


class ChatLists:
    """One per process."""

    def __init__(self, reader: Reader, hub: Hub) -> None:
        self._reader = reader
        self._hub = hub
        self._changed: dict[tuple[int, int], None] = {}
        self._more = asyncio.Event()

    def changed(self, conversation_id: int, *users: int) -> None:
        """The chat's line in the lists of these participants is another one now."""
        for user in users:
            self._changed[conversation_id, user] = None
        self._more.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with loops.loops(self._tell_forever):
            yield
        await self._tell(rest=0)

    async def _tell_forever(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            await self._tell(rest=REST)
            await asyncio.sleep(PAUSE)

    async def _tell(self, *, rest: int) -> None:
        """Tell of what has changed until now; `rest` as in REST."""
        changed = list(self._changed)
        for start in range(0, len(changed), TURN):
            began = time.monotonic()
            await self._take_turn(changed[start : start + TURN])
            if start + TURN < len(changed):
                await asyncio.sleep(min(PAUSE, rest * (time.monotonic() - began)))

    async def _take_turn(self, some: Sequence[tuple[int, int]]) -> None:
        for each in some:
            del self._changed[each]  # before it is read: what changes from here on is told of next time
        try:
            lines = await lists.lines(self._reader, some)
        except BaseException as error:
            self._changed |= dict.fromkeys(some)  # until PostgreSQL is back, or for the last time before the end
            if not isinstance(error, UNAVAILABLE):
                raise
            self._more.set()
            return
        by_user: dict[int, list[Entry]] = defaultdict(list)
        for user, entry in lines:
            by_user[user].append(entry)
        for user, entries in by_user.items():
            self._hub.publish([user], fragments.chats_swap(entries))
