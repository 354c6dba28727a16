"""Presence on open pages: who of the people with whom one has a chat is online, and when the others last were.

Nobody learns it of somebody who hides it, and who hides their own learns nobody's. Of two people of whom one blocks the
other, neither does.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    bindparam,
    exists,
    false,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased

from web import loops
from web.chat import fragments
from web.chat.conversations import Person
from web.data.models import Block, Participant, User
from web.data.postgres import DATABASE_AWAY
from web.data.questions import Question, Reader, pairs
from web.data.store import Store
from web.live import presence
from web.live.hub import Hub

PAUSE = 0.1
"""Seconds between two rounds."""
AWAY_PAUSE = 1.0
"""Seconds until it is tried again while PostgreSQL or Redis is away."""
PIECE = 1000
"""Users that are told to Redis in one call, which holds up everybody else's for some milliseconds."""


class Seen(NamedTuple):
    """A person as the others see them."""

    user_id: int
    name: str
    seen_at: datetime | None
    is_online: bool


class Audience(NamedTuple):
    """A person, and whom to tell of their presence."""

    user_id: int
    name: str
    seen_at: datetime | None
    hides: bool
    others: Sequence[int]


_ME = bindparam("me", type_=BigInteger)
_MINE, _MYSELF, _OTHER = aliased(Participant), aliased(User), aliased(User)


def _are_apart(user: Any, other: Any) -> ColumnElement[bool]:
    """Whether one of them blocks the other."""
    return or_(
        exists().where(Block.user_id == user, Block.blocked_id == other),
        exists().where(Block.user_id == other, Block.blocked_id == user),
    )


_WANTED = pairs(conversation_id="conversations")
SEEN = Question(
    Seen,
    select(User.id.label("user_id"), User.username.label("name"), User.seen_at, false().label("is_online"))
    .select_from(_WANTED)
    .join(_MINE, (_MINE.conversation_id == _WANTED.c.conversation_id) & (_MINE.user_id == _ME))
    .join(Participant, (Participant.conversation_id == _MINE.conversation_id) & (Participant.user_id != _ME))
    .join(User, User.id == Participant.user_id)
    .join(_MYSELF, _MYSELF.id == _ME)
    .where(~User.hides_presence, ~_MYSELF.hides_presence, ~_are_apart(User.id, _ME)),
)

# Nobody needs to know it to the minute.
_NOW = func.date_bin(literal_column("interval '5 minutes'"), func.now(), literal_column("timestamptz 'epoch'"))
_PEOPLE = pairs(user_id="users")
_seen = (
    update(User)
    .where(User.id == _PEOPLE.c.user_id)
    .values(seen_at=_NOW)
    .returning(User.id, User.username, User.seen_at, User.hides_presence)
    .cte("seen")
)
AUDIENCE = Question(
    Audience,
    select(
        _seen.c.id.label("user_id"),
        _seen.c.username.label("name"),
        _seen.c.seen_at,
        _seen.c.hides_presence.label("hides"),
        func.array_agg(Participant.user_id).label("others"),
    )
    .join(_MINE, (_MINE.user_id == _seen.c.id) & _MINE.active_at.is_not(None))
    .join(Participant, (Participant.conversation_id == _MINE.conversation_id) & (Participant.user_id != _seen.c.id))
    .join(_OTHER, _OTHER.id == Participant.user_id)
    .where(~_OTHER.hides_presence, ~_are_apart(_seen.c.id, Participant.user_id))
    .group_by(_seen.c.id, _seen.c.username, _seen.c.seen_at, _seen.c.hides_presence),
)


class PresenceUpdates:
    """One per process."""

    def __init__(self, reader: Reader, store: Store, hub: Hub, process_id: str) -> None:
        self._reader = reader
        self._store = store
        self._hub = hub
        self._process_id = process_id
        self._moving: set[int] = set()
        self._again: set[int] = set()
        """Of whom Redis is to be told again: they left some time ago, or its answer did not come."""
        self._unheard: set[int] = set()
        """Who may have come or left, since Redis did not answer. The others are told of them once it does."""
        self._untold: set[int] = set()
        """Who came or left as Redis has it, of which the others do not know yet."""
        self._to_tell: set[int] = set()
        self._begun: set[tuple[int, int]] = set()
        """Chats that have just begun, each with a participant, who does not know yet who of the others is online."""
        self._more = asyncio.Event()
        hub.on_presence(self._move)

    async def of(self, me: int, conversation_ids: Sequence[int]) -> list[Seen]:
        """The other people of these chats, as user `me` may see them."""
        seen = await self._reader.fetch(SEEN, me=me, conversations=conversation_ids)
        user_ids = [person.user_id for person in seen]
        online = await self._store.attempt(presence.online(self._store.client, user_ids)) or ()
        return [person._replace(is_online=person.user_id in online) for person in seen]

    def tell(self, user: int) -> None:
        """Tell the others of this user's presence, who began or ceased to hide it."""
        self._to_tell.add(user)
        self._more.set()

    def introduce(self, conversation_id: int, users: Iterable[int]) -> None:
        """Tell the participants of a chat that has just begun of each other's presence."""
        self._begun.update((conversation_id, user) for user in users)
        self._more.set()

    def part(self, people: Sequence[Person]) -> None:
        """Take the presence of each from the pages of the others: one of them has blocked another."""
        for person in people:
            others = [other.id for other in people if other != person]
            self._hub.publish(others, fragments.presence([Seen(person.id, person.username, None, False)]))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with loops.running(self._publish_forever, self._lose_forever):
            yield

    def _move(self, users: Iterable[int]) -> None:
        self._moving.update(users)
        self._more.set()

    def _ask_later(self, users: Iterable[int]) -> None:
        """Redis is away, or too slow: nobody knows yet who of them came or left."""
        self._unheard.update(users)
        asyncio.get_running_loop().call_later(AWAY_PAUSE, self._look_again, *users)

    def _look_again(self, *users: int) -> None:
        self._again.update(users)
        self._more.set()

    async def _publish_forever(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            moving, self._moving = self._moving, set()
            again, self._again = self._again, set()
            untold, self._untold = self._untold, set()
            to_tell, self._to_tell = self._to_tell, set()
            begun, self._begun = self._begun, set()
            for user in moving:
                if not self._hub.has(user):
                    asyncio.get_running_loop().call_later(presence.GRACE_SECONDS + PAUSE, self._look_again, user)
            untold |= await self._tell_redis(list(moving | again))
            try:
                await self._publish(untold | to_tell, hidden=to_tell)
                await self._introduce(begun)
            except DATABASE_AWAY:
                self._untold |= untold
                self._to_tell |= to_tell
                self._begun |= begun
                self._more.set()
                await asyncio.sleep(AWAY_PAUSE)
            await asyncio.sleep(PAUSE)

    async def _lose_forever(self) -> None:
        """Find those whose process was killed, and who did not come back."""
        while True:
            await asyncio.sleep(presence.REFRESH_SECONDS)
            if lost := await self._store.attempt(presence.lose(self._store.client, PIECE)):
                self._untold.update(lost)
                self._more.set()

    async def _tell_redis(self, users: Sequence[int]) -> set[int]:
        """Returns who came or left by that."""
        moved: set[int] = set()
        for start in range(0, len(users), PIECE):
            live = {user: self._hub.has(user) for user in users[start : start + PIECE]}
            moves = await self._store.attempt(presence.move(self._store.client, self._process_id, live))
            if moves is None:
                self._ask_later(live)
            else:
                moved.update(moves, self._unheard & live.keys())
                self._unheard -= live.keys()
        return moved

    async def _publish(self, users: set[int], hidden: set[int]) -> None:
        """Tell the others. Of users in `hidden` who hide their presence, that there is nothing to see."""
        if not users:
            return
        online = await self._store.attempt(presence.online(self._store.client, list(users)))
        if online is None:
            self._ask_later(users)
        for user_id, name, seen_at, hides, others in await self._reader.fetch(AUDIENCE, users=list(users)):
            if not hides and online is not None:
                self._hub.publish(others, fragments.presence([Seen(user_id, name, seen_at, user_id in online)]))
            elif hides and user_id in hidden:
                self._hub.publish(others, fragments.presence([Seen(user_id, name, None, False)]))

    async def _introduce(self, begun: Iterable[tuple[int, int]]) -> None:
        for conversation_id, user in begun:
            seen = [person for person in await self.of(user, [conversation_id]) if person.is_online or person.seen_at]
            if seen:
                self._hub.publish([user], fragments.presence(seen))
