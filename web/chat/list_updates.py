"""Chat lists of open pages: an entry that changed is published at once, then a few times a second.

Nobody reads a list as fast as messages can come, and moving it with each of them costs both ends more than the messages
do. An entry is read from PostgreSQL when its turn comes, and so is always the newest.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy import select

from web import loops
from web.chat import fragments, lists
from web.chat.lists import Entry
from web.chat.reading import Moved
from web.data.models import Participant
from web.data.postgres import DATABASE_AWAY, Database
from web.data.questions import Reader
from web.live.hub import Hub
from web.live.relay import Frame, Relay

PAUSE = 0.25
"""Seconds between two times that the same entry is published."""
TICK = 0.05
"""Seconds between two rounds of publishing."""
TURN = 32
"""Entries that are published at a time."""
REST = 15
"""How many times as long as a turn took to wait before the next one: messages go before the entries of lists."""


class ListUpdates:
    """One per process."""

    def __init__(self, reader: Reader, hub: Hub) -> None:
        self._reader = reader
        self._hub = hub
        self._changed: dict[tuple[int, int], None] = {}
        self._published: dict[tuple[int, int], float] = {}
        """When the entries were published that must pause."""
        self._more = asyncio.Event()

    def changed(self, conversation_id: int, users: Iterable[int]) -> None:
        """The entry of that chat in these participants' lists has changed."""
        for user in users:
            self._changed[conversation_id, user] = None
        self._more.set()

    def moved(self, entries: Iterable[Moved]) -> None:
        """Somebody got further in a chat, which changes these entries."""
        for entry in entries:
            self._changed[entry.conversation_id, entry.user_id] = None
            self._more.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with loops.running(self._publish_forever):
            yield
        await self._publish(list(self._changed), rest=0)

    async def _publish_forever(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            await self._publish(self._due(), rest=REST)
            await asyncio.sleep(TICK)

    def _due(self) -> list[tuple[int, int]]:
        """The entries that may be published now. The others stay for later."""
        now = time.monotonic()
        self._published = {key: at for key, at in self._published.items() if at > now - PAUSE}
        due = [key for key in self._changed if key not in self._published]
        self._published |= dict.fromkeys(due, now)
        if len(due) < len(self._changed):
            self._more.set()
        return due

    async def _publish(self, changed: Sequence[tuple[int, int]], *, rest: int) -> None:
        """`rest` as in REST."""
        for start in range(0, len(changed), TURN):
            began = time.monotonic()
            await self._take_turn(changed[start : start + TURN])
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
        for frame in _frames(entries):
            self._hub.publish(*frame)


def _frames(entries: Iterable[Entry]) -> Iterator[Frame]:
    by_user: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_user[entry.user_id].append(entry)
    for user, theirs in by_user.items():
        yield Frame([user], fragments.chats_swap(theirs))


async def publish_of(db: Database, reader: Reader, relay: Relay[Any], conversation_id: int) -> None:
    """For a process without pages: publish the entries of that chat in everybody's lists."""
    with suppress(*DATABASE_AWAY):  # a page that comes back has them from PostgreSQL
        async with db() as session:
            people = select(Participant.user_id).where(Participant.conversation_id == conversation_id)
            wanted = [(conversation_id, user) for user in await session.scalars(people)]
        for frame in _frames(await lists.entries(reader, wanted)):
            relay.publish(frame)
