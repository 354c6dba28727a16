"""Conversations: their people, and who of them blocks whom."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Text, bindparam, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from web.accounts import names, users
from web.data import models
from web.data.models import Block, Participant, User
from web.data.postgres import Database
from web.data.questions import Question, Reader
from web.live.hub import Hub

conversations = models.Conversation

REMEMBERED = 50_000
"""Conversations that a process remembers at most."""
PEOPLE_CHANGED = "people-changed"
"""The topic of notices with the ids of users whose names, colour, membership or blocks have changed."""


class Person(NamedTuple):
    """A participant, by the name that the others see."""

    id: int
    username: str
    shown: str = ""
    """What they want to be called."""
    hue: int | None = None


@dataclass(frozen=True)
class Conversation:
    """A conversation and its people, in the order of their ids. `id` is 0 until the first message begins it."""

    id: int
    people: tuple[Person, ...]
    blocks: frozenset[tuple[int, int]] = frozenset()
    """Pairs of two of the people: the first one blocks the second."""

    # Computed once, since every message needs them.
    @cached_property
    def user_ids(self) -> Sequence[int]:
        return [person.id for person in self.people]

    @cached_property
    def key(self) -> str:
        """What pages call the conversation that were opened before it had an id."""
        return "-".join(map(str, self.user_ids))

    def person(self, user_id: int) -> Person:
        return self.people[self.place(user_id)]

    def others(self, user_id: int) -> list[Person]:
        return [person for person in self.people if person.id != user_id]

    def place(self, user_id: int) -> int:
        """Which of the people this is, from 0."""
        return self.user_ids.index(user_id)

    def is_blocker(self, user_id: int) -> bool:
        """Whether this participant blocks another one."""
        return any(blocker == user_id for blocker, _ in self.blocks)

    def is_blocked(self, user_id: int) -> bool:
        """Whether this participant is blocked: what they send now reaches nobody else."""
        return any(blocked == user_id for _, blocked in self.blocks)

    def name(self, user_id: int) -> str:
        """What this participant calls the conversation; it is also their address of it, /chat/{name}."""
        return ", ".join(person.username for person in self.others(user_id))

    def title(self, user_id: int) -> str:
        """`name` for the eye: what its people want to be called."""
        return ", ".join(person.shown for person in self.others(user_id))

    def element(self, kind: str) -> str:
        """The id of an element of its pages."""
        return f"{kind}-{self.id}" if self.id else f"{kind}-of-{self.key}"

    def target(self, kind: str) -> str:
        """Finds that element on every page, whenever it was opened."""
        return f"#{kind}-{self.id}, #{kind}-of-{self.key}"


class Message(NamedTuple):
    """A message as PostgreSQL holds it."""

    seq: int
    version: int
    author_id: int
    nonce: str
    body: str
    created_at: datetime
    edited_at: datetime | None = None
    removed_at: datetime | None = None
    held: bool = False
    """Its author was blocked when they sent it, so only they may see it."""
    reply_to: int | None = None
    quoted_author_id: int | None = None
    quoted_body: str | None = None
    """How the message begins that it answers; None if that was removed."""
    quoted_edited_at: datetime | None = None
    reactions: Sequence[tuple[str, int]] | None = None
    """Pairs of an emoji and a user's id, in the order in which they came."""


class Found(NamedTuple):
    """Two users, and their conversation if they have one."""

    my_id: int
    my_name: str
    my_shown: str
    my_hue: int | None
    their_id: int
    their_name: str
    their_shown: str
    their_hue: int | None
    conversation_id: int | None
    i_block: bool
    they_block: bool


_ME = bindparam("me", type_=BigInteger)


def _blocks(user: ColumnElement[int], blocked: ColumnElement[int]) -> ColumnElement[bool]:
    return exists().where(Block.user_id == user, Block.blocked_id == blocked)


_MYSELF = aliased(User)
_IDS = (_MYSELF.id, User.id)
WITH = Question(
    Found,
    select(
        _MYSELF.id.label("my_id"),
        _MYSELF.username.label("my_name"),
        _MYSELF.shown.label("my_shown"),
        _MYSELF.hue.label("my_hue"),
        User.id.label("their_id"),
        User.username.label("their_name"),
        User.shown.label("their_shown"),
        User.hue.label("their_hue"),
        conversations.id.label("conversation_id"),
        _blocks(_MYSELF.id.expression, User.id.expression).label("i_block"),
        _blocks(User.id.expression, _MYSELF.id.expression).label("they_block"),
    )
    .join(User, (users.folded_name() == bindparam("name", type_=Text)) & (User.id != _MYSELF.id))
    .outerjoin(
        conversations,
        (conversations.low_user_id == func.least(_MYSELF.id, User.id))
        & (conversations.high_user_id == func.greatest(_MYSELF.id, User.id)),
    )
    .where(_MYSELF.id == _ME),
)


class Conversations:
    """Finds conversations by a participant and a name, and remembers their people, so that sends need no look-up.

    Code that changes a name, a membership or a block must call `Hub.notify(PEOPLE_CHANGED, user_ids)` after its commit.
    """

    def __init__(self, reader: Reader, db: Database, hub: Hub) -> None:
        self._reader = reader
        self._db = db
        self._hub = hub
        self._known: dict[tuple[int, str], Conversation] = {}
        self._forgotten = 0
        """How often something was forgotten: what was read from PostgreSQL before that may be out of date."""
        hub.on_notice(PEOPLE_CHANGED, self._forget, missed=self._forget_all)

    async def find(self, me: int, username: str) -> Conversation | None:
        """The conversation of user `me` with `username`, without an id if neither has written yet.

        None if nobody has that name, or if it is their own.
        """
        name = users.fold(username)
        # While we are not listening to the other processes, what we remember may be out of date.
        known = self._known.get((me, name)) if self._hub.is_listening else None
        if known is not None or not names.USERNAME.fullmatch(username):
            return known
        forgotten = self._forgotten
        rows = await self._reader.fetch(WITH, me=me, name=name)
        if not rows:
            return None
        found = rows[0]
        mine = Person(found.my_id, found.my_name, found.my_shown, found.my_hue)
        theirs = Person(found.their_id, found.their_name, found.their_shown, found.their_hue)
        people = sorted([mine, theirs], key=lambda it: it.id)
        pairs = {(found.my_id, found.their_id): found.i_block, (found.their_id, found.my_id): found.they_block}
        blocks = frozenset(pair for pair, is_so in pairs.items() if is_so)
        conversation = Conversation(found.conversation_id or 0, tuple(people), blocks)
        if conversation.id and forgotten == self._forgotten:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[me, name] = conversation
        return conversation

    async def begin(
        self, conversation: Conversation, count: Callable[[], Awaitable[None]] | None = None
    ) -> Conversation:
        """Create a conversation that has no id yet, unless another send is doing so at this moment.

        `count` is awaited if this call creates it. What it raises undoes that.
        """
        low, high = conversation.user_ids
        async with self._db() as db:
            new = insert(conversations).values(low_user_id=low, high_user_id=high).on_conflict_do_nothing()
            made = await db.scalar(new.returning(conversations.id))
            if made is None:
                query = select(conversations.id).where(
                    conversations.low_user_id == low, conversations.high_user_id == high
                )
                return replace(conversation, id=(await db.scalars(query)).one())
            if count is not None:
                await count()
            people = [{"conversation_id": made, "user_id": user} for user in conversation.user_ids]
            await db.execute(insert(Participant).values(people))
            await db.commit()
            return replace(conversation, id=made)

    def _forget(self, user_ids: Sequence[int]) -> None:
        self._forgotten += 1
        changed = set(user_ids)
        for key, conversation in list(self._known.items()):
            if changed.intersection(conversation.user_ids):
                del self._known[key]

    def _forget_all(self) -> None:
        self._forgotten += 1
        self._known.clear()
