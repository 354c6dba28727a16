"""The chat lists of open pages: a chat that changes is told of at once, and then once in a while.

Nobody reads a list as fast as messages can come, and one that moves with each of them costs both ends more than the
messages do. What was held back is read in PostgreSQL when its time has come, and so is what it is then.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from web import background, conversations, fragments
from web.conversations import Entry, Pair
from web.db import UNAVAILABLE
from web.hub import Hub
from web.reader import Reader

PAUSE = 0.25
"""Seconds between two lines for one chat."""
TURN = 32
"""Lines that are told of without a pause."""


class ChatLists:
    """One per process."""

    def __init__(self, reader: Reader, hub: Hub) -> None:
        self._reader = reader
        self._hub = hub
        self._told: set[int] = set()
        self._waiting: dict[tuple[int, int], None] = {}
        self._more = asyncio.Event()

    def may_tell(self, pair: Pair) -> bool:
        """Whether the caller may tell the participants of their chat now. If not, it is done in a moment."""
        if pair.id in self._told:
            self.later(pair.id, *pair.users)
            return False
        self._told.add(pair.id)
        self._more.set()
        return True

    def later(self, conversation_id: int, *users: int) -> None:
        """Tell these participants in a moment what there is to say then."""
        for user in users:
            self._waiting[conversation_id, user] = None
        self._more.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with background.loops(self._tell_forever):
            yield
        await self._tell_waiting()

    async def _tell_forever(self) -> None:
        while True:
            await self._more.wait()
            await asyncio.sleep(PAUSE)
            await self._tell_waiting()

    async def _tell_waiting(self) -> None:
        waiting, self._waiting = list(self._waiting), {}
        self._told = {conversation_id for conversation_id, _ in waiting}
        if not waiting:
            self._more.clear()
        for start in range(0, len(waiting), TURN):
            some = waiting[start : start + TURN]
            try:
                self._tell(await conversations.lines(self._reader, some))
            except UNAVAILABLE:
                self._waiting |= dict.fromkeys(some)  # until PostgreSQL is back
                self._more.set()

    def _tell(self, lines: list[tuple[int, Entry]]) -> None:
        by_user: dict[int, list[Entry]] = defaultdict(list)
        for user, entry in lines:
            by_user[user].append(entry)
        for user, entries in by_user.items():
            self._hub.publish([user], fragments.chats_swap(entries))
