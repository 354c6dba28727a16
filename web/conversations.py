"""Conversations: who they join, the chat list, and how far each participant has read."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    bindparam,
    case,
    column,
    func,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from web import accounts, sessions
from web.db import Sessions
from web.models import Conversation, Message, Moment, Participant, User
from web.reader import Question, Reader
from web.sessions import SignedIn

PAGE = 50
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PLACE = re.compile(r"(\d{1,16})-(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Person:
    """What never changes of a user."""

    id: int
    username: str


@dataclass(frozen=True, slots=True)
class Pair:
    """The two participants of a conversation, which stay the same for ever; `low` registered first."""

    id: int
    low: Person
    high: Person

    @property
    def users(self) -> tuple[int, int]:
        return self.low.id, self.high.id

    def other(self, user_id: int) -> Person:
        return self.high if user_id == self.low.id else self.low

    def person(self, user_id: int) -> Person:
        return self.low if user_id == self.low.id else self.high

    def side(self, user_id: int) -> int:
        """0 or 1: which of the two this is, for the page's style, since a message is rendered once for both."""
        return int(user_id == self.high.id)


class Entry(NamedTuple):
    """A chat in somebody's list: with whom, its last line, and what they have not read."""

    conversation_id: int
    username: str
    body: str
    mine: bool
    active_at: datetime
    version: int
    last_seq: int
    read_seq: int

    @property
    def unread(self) -> int:
        return max(0, self.last_seq - self.read_seq)

    @property
    def edition(self) -> int:
        """Every message and every reading raises it, so that of two lines for one chat the later is known."""
        return self.version + self.read_seq

    @property
    def order(self) -> int:
        """Microseconds since 1970: the newest chat has the highest."""
        return _microseconds(self.active_at)

    @property
    def place(self) -> str:
        """Where the chat stands in the list, for the page that follows it: messages of one commit have one time."""
        return f"{self.order}-{self.conversation_id}"


# The messages of one transaction have one moment.
@lru_cache(256)
def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _entries(me: ColumnElement[int]) -> Select[*tuple[Any, ...]]:
    other = aliased(User)
    other_id = case((Conversation.low_user_id == me, Conversation.high_user_id), else_=Conversation.low_user_id)
    return (
        select(
            Participant.user_id,
            Participant.conversation_id,
            other.username,
            Message.body,
            Message.author_id,
            Participant.active_at,
            Conversation.version,
            Conversation.last_seq,
            Participant.read_seq,
        )
        .join(Conversation, Conversation.id == Participant.conversation_id)
        .join(other, other.id == other_id)
        .join(Message, (Message.conversation_id == Conversation.id) & (Message.seq == Conversation.last_seq))
    )


def _newest(me: ColumnElement[int]) -> Select[*tuple[Any, ...]]:
    return (
        _entries(me)
        .where(Participant.user_id == me, Participant.active_at.is_not(None))
        .order_by(Participant.active_at.desc(), Participant.conversation_id.desc())
        .limit(PAGE)
    )


_ME = bindparam("me", type_=BigInteger)
_BEFORE = tuple_(bindparam("active_at", type_=Moment), bindparam("conversation_id", type_=BigInteger))
NEWEST = Question(_newest(_ME))
FURTHER = Question(_newest(_ME).where(tuple_(Participant.active_at, Participant.conversation_id) < _BEFORE))
_MINE = _newest(User.id.expression).lateral("mine")
OF_SESSION = Question(
    sessions.held()
    .add_columns(*_MINE.c)
    .outerjoin(_MINE, true())
    .order_by(_MINE.c.active_at.desc(), _MINE.c.conversation_id.desc())
)

_BIGINTS = ARRAY(BigInteger)
_ASKED = (
    func.unnest(bindparam("conversations", type_=_BIGINTS), bindparam("users", type_=_BIGINTS))
    .table_valued(column("conversation_id", BigInteger), column("user_id", BigInteger), name="asked")
    .render_derived()
)
LINES = Question(
    _entries(Participant.user_id.expression).join(
        _ASKED,
        (_ASKED.c.conversation_id == Participant.conversation_id) & (_ASKED.c.user_id == Participant.user_id),
    )
)
WHERE = Question(
    select(Conversation.version, Conversation.last_seq - Participant.read_seq)
    .join(Participant, Participant.conversation_id == Conversation.id)
    .where(
        Conversation.id == bindparam("conversation_id", type_=BigInteger),
        Participant.user_id == bindparam("me", type_=BigInteger),
    )
)


class Pairs:
    """Finds the conversation of two people, and remembers it: membership is asked once a process, not once a message.

    Nothing here goes stale, since a username and a conversation's participants never change.
    """

    REMEMBERED = 50_000

    def __init__(self, db: Sessions) -> None:
        self._db = db
        self._known: dict[tuple[int, str], Pair] = {}

    async def find(self, me: int, username: str) -> Pair | None:
        """The conversation of user `me` with `username`, begun where there was none.

        None where nobody has that name, or where it is one's own.
        """
        key = (me, username.lower())
        pair = self._known.get(key)
        if pair is None:
            async with self._db() as db:
                pair = await _find_or_begin(db, me, username)
                await db.commit()
            if pair is not None:
                if len(self._known) >= self.REMEMBERED:
                    self._known.clear()
                self._known[key] = pair
        return pair


async def _find_or_begin(db: AsyncSession, me: int, username: str) -> Pair | None:
    if not accounts.USERNAME.fullmatch(username):
        return None
    query = select(User.id, User.username).where(accounts.is_named(username) | (User.id == me))
    people = sorted((Person(*row) for row in await db.execute(query)), key=lambda person: person.id)
    if len(people) != 2:
        return None
    low, high = people
    return Pair(await _conversation_id(db, low.id, high.id), low, high)


async def _conversation_id(db: AsyncSession, low: int, high: int) -> int:
    query = select(Conversation.id).where(Conversation.low_user_id == low, Conversation.high_user_id == high)
    found = await db.scalar(query)
    if found is not None:
        return found
    new = insert(Conversation).values(low_user_id=low, high_user_id=high).on_conflict_do_nothing()
    made = await db.scalar(new.returning(Conversation.id))
    if made is None:  # the other one opened the chat at the same moment
        return (await db.scalars(query)).one()
    await db.execute(insert(Participant).values([{"conversation_id": made, "user_id": user} for user in (low, high)]))
    return int(made)


async def listed(reader: Reader, me: int, after: str = "") -> list[Entry]:
    """A page of the chat list of user `me`, the newest first, from the one after the place `after` on."""
    if place := PLACE.fullmatch(after):
        moment = EPOCH + timedelta(microseconds=int(place[1]))
        rows = await reader.ask(FURTHER, me=me, active_at=moment, conversation_id=int(place[2]))
    else:
        rows = await reader.ask(NEWEST, me=me)
    return [_entry(*row) for row in rows]


async def of_session(reader: Reader, session_id: bytes | None) -> tuple[SignedIn, list[Entry]] | None:
    """Whose session it is, and the first page of their list: what nearly every page needs, in one question."""
    rows = await reader.ask(OF_SESSION, session_id=session_id) if session_id else []
    if not rows:
        return None
    return SignedIn(*rows[0][:4]), [_entry(*row[4:]) for row in rows if row[4] is not None]


async def lines(reader: Reader, asked: Iterable[tuple[int, int]]) -> list[tuple[int, Entry]]:
    """Chats of lists, as pairs of a user and an entry; asked for as pairs of a conversation and a user."""
    conversations, users = zip(*asked, strict=True)
    rows = await reader.ask(LINES, conversations=list(conversations), users=list(users))
    return [(row[0], _entry(*row)) for row in rows]


async def where(reader: Reader, me: int, conversation_id: int) -> tuple[int, int]:
    """The conversation's version, and how many messages this user has not read."""
    [(version, unread)] = await reader.ask(WHERE, me=me, conversation_id=conversation_id)
    return version, unread


async def mark_read(db: AsyncSession, me: int, conversation_id: int, version: int) -> bool:
    """Everything that the page at `version` showed is read. Whether that was news. The caller commits."""
    shown = (
        select(func.max(Message.seq))
        .where(Message.conversation_id == conversation_id, Message.version <= version)
        .scalar_subquery()
    )
    statement = (
        update(Participant)
        .where(Participant.conversation_id == conversation_id, Participant.user_id == me, Participant.read_seq < shown)
        .values(read_seq=shown)
        .returning(Participant.read_seq)
    )
    return (await db.scalar(statement)) is not None


def _entry(me: int, conversation_id: int, username: str, body: str, author_id: int, *rest: Any) -> Entry:
    return Entry(conversation_id, username, body, author_id == me, *rest)
