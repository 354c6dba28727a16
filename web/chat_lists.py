"""The chat lists of open pages: lines that changed, told of a few times a second.

Nobody reads a list as fast as messages can come, and one that moves with each of them costs both ends more than the
messages do. A line is read in PostgreSQL when its time has come, and so is what it is then.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from web import background, chats, fragments
from web.chats import Entry
from web.db import UNAVAILABLE
from web.hub import Hub
from web.reader import Reader

PAUSE = 0.25
"""Seconds between two times at which pages are told; what changes after such a pause is told of at once."""
TURN = 32
"""Lines that are told of without a pause."""


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
        async with background.loops(self._tell_forever):
            yield
        await self._tell()

    async def _tell_forever(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            await self._tell()
            await asyncio.sleep(PAUSE)

    async def _tell(self) -> None:
        changed, self._changed = list(self._changed), {}
        for start in range(0, len(changed), TURN):
            some = changed[start : start + TURN]
            try:
                lines = await chats.lines(self._reader, some)
            except UNAVAILABLE:
                self._changed |= dict.fromkeys(some)  # until PostgreSQL is back
                self._more.set()
                continue
            by_user: dict[int, list[Entry]] = defaultdict(list)
            for user, entry in lines:
                by_user[user].append(entry)
            for user, entries in by_user.items():
                self._hub.publish([user], fragments.chats_swap(entries))
