"""Chat lists of open pages: entries that changed are published a few times a second, less often when there are many.

Nobody reads a list as fast as messages can come, and moving it with each of them costs both ends more than the messages
do. An entry is read from PostgreSQL when its turn comes, and so is always the newest.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from web import loops
from web.chat import fragments, lists
from web.chat.lists import Entry
from web.data.postgres import DATABASE_AWAY
from web.data.questions import Reader
from web.live.hub import Hub

PAUSE = 0.25
"""Seconds between two rounds of publishing. A change after such a pause is published at once."""
TURN = 32
"""Entries that are published at a time."""
REST = 7
"""How many times as long as a turn took to wait before the next one: messages go before the entries of lists."""


class ListUpdates:
    """One per process."""

    def __init__(self, reader: Reader, hub: Hub) -> None:
        self._reader = reader
        self._hub = hub
        self._changed: dict[tuple[int, int], None] = {}
        self._more = asyncio.Event()

    def changed(self, conversation_id: int, users: Iterable[int]) -> None:
        """The entry of that chat in these participants' lists has changed."""
        for user in users:
            self._changed[conversation_id, user] = None
        self._more.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with loops.running(self._publish_forever):
            yield
        await self._publish(rest=0)

    async def _publish_forever(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            await self._publish(rest=REST)
            await asyncio.sleep(PAUSE)

    async def _publish(self, *, rest: int) -> None:
        """Publish what has changed until now; `rest` as in REST."""
        changed = list(self._changed)
        for start in range(0, len(changed), TURN):
            began = time.monotonic()
            await self._take_turn(changed[start : start + TURN])
            if start + TURN < len(changed):
                await asyncio.sleep(min(PAUSE, rest * (time.monotonic() - began)))

    async def _take_turn(self, some: Sequence[tuple[int, int]]) -> None:
        for each in some:
            del self._changed[each]  # before reading it: a change from here on is published next time
        try:
            entries = await lists.entries(self._reader, some)
        except (*DATABASE_AWAY, asyncio.CancelledError) as error:
            self._changed |= dict.fromkeys(some)  # until PostgreSQL is back, or the process ends
            self._more.set()
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        by_user: dict[int, list[Entry]] = defaultdict(list)
        for entry in entries:
            by_user[entry.user_id].append(entry)
        for user, theirs in by_user.items():
            self._hub.publish([user], fragments.chats_swap(theirs))
