"""Chat lists: the chats of a user, newest first, each with its last message and how much of it is unread."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    bindparam,
    column,
    func,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased

from web.accounts import sessions
from web.accounts.sessions import SignedIn
from web.data.models import Conversation, Message, Moment, Participant, User
from web.data.questions import Question, Reader, outer_join

PAGE = 50
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PLACE = re.compile(r"(\d{1,16})-(\d{1,18})")


class Entry(NamedTuple):
    """A chat in the list of user `user_id`: its name, its last message, and how far they have read."""

    user_id: int
    conversation_id: int
    name: str
    body: str
    author_id: int
    active_at: datetime
    version: int
    last_seq: int
    read_seq: int
    draft: str
    draft_edition: int

    @property
    def mine(self) -> bool:
        """Whether the user wrote the last message."""
        return self.author_id == self.user_id

    @property
    def unread(self) -> int:
        return max(0, self.last_seq - self.read_seq)

    @property
    def edition(self) -> int:
        """Rises with every change, reading and draft, so of two entries for a chat the later one is known."""
        return self.version + self.read_seq + self.draft_edition

    @property
    def order(self) -> int:
        """Microseconds since 1970: the newest chat has the highest."""
        return _microseconds(self.active_at)

    @property
    def place(self) -> str:
        """The chat's place in the list, for the page after it. Messages of one commit have the same time."""
        return f"{self.order}-{self.conversation_id}"


# The messages of one transaction have the same time.
@lru_cache(256)
def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _entries(participant: type[Participant]) -> Select[*tuple[Any, ...]]:
    """The columns of Entry for these rows of Participant, each in its own user's list."""
    other, other_user = aliased(Participant), aliased(User)
    # The same name as Conversation.name gives it.
    separator: Any = aggregate_order_by(literal_column("', '"), other_user.id)
    name = (
        select(func.string_agg(other_user.username, separator))
        .join(other, other.user_id == other_user.id)
        .where(other.conversation_id == participant.conversation_id, other.user_id != participant.user_id)
        .scalar_subquery()
    )
    last_shown = func.coalesce(participant.shown_seq, Conversation.last_seq)
    return (
        select(
            participant.user_id,
            participant.conversation_id,
            name.label("name"),
            Message.body,
            Message.author_id,
            participant.active_at,
            Conversation.version,
            Conversation.last_seq,
            participant.read_seq,
            participant.draft,
            participant.draft_edition,
        )
        .join(Conversation, Conversation.id == participant.conversation_id)
        .join(Message, (Message.conversation_id == Conversation.id) & (Message.seq == last_shown))
    )


def _newest(me: ColumnElement[int], *conditions: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    # Cut the page before joining anything to it, so that somebody with a thousand chats waits no longer than others.
    page = (
        select(Participant)
        .where(Participant.user_id == me, Participant.active_at.is_not(None), *conditions)
        .order_by(Participant.active_at.desc(), Participant.conversation_id.desc())
        .limit(PAGE)
        .correlate(User)
    )
    newest = aliased(Participant, page.subquery("newest"))
    return _entries(newest).order_by(newest.active_at.desc(), newest.conversation_id.desc())


_ME = bindparam("me", type_=BigInteger)
_BEFORE = tuple_(bindparam("active_at", type_=Moment), bindparam("conversation_id", type_=BigInteger))
NEWEST = Question(Entry, _newest(_ME))
FURTHER = Question(Entry, _newest(_ME, tuple_(Participant.active_at, Participant.conversation_id) < _BEFORE))
_MINE = _newest(User.id.expression).lateral("mine")
OF_SESSION = Question(
    outer_join(SignedIn, Entry),
    sessions.valid()
    .add_columns(*_MINE.c)
    .outerjoin(_MINE, true())
    .order_by(_MINE.c.active_at.desc(), _MINE.c.conversation_id.desc()),
)


class Total(NamedTuple):
    unread: int


UNREAD = Question(
    Total,
    select(func.coalesce(func.sum(Conversation.last_seq - Participant.read_seq), 0).label("unread"))
    .select_from(Participant)
    .join(Conversation, Conversation.id == Participant.conversation_id)
    .where(Participant.user_id == _ME, Participant.active_at.is_not(None)),
)

_BIGINTS = ARRAY(BigInteger)
_WANTED = (
    func.unnest(bindparam("conversations", type_=_BIGINTS), bindparam("users", type_=_BIGINTS))
    .table_valued(column("conversation_id", BigInteger), column("user_id", BigInteger), name="wanted")
    .render_derived()
)
ENTRIES = Question(
    Entry,
    _entries(Participant).join(
        _WANTED,
        (_WANTED.c.conversation_id == Participant.conversation_id) & (_WANTED.c.user_id == Participant.user_id),
    ),
)


async def listed(reader: Reader, me: int, after: str = "") -> list[Entry]:
    """A page of user `me`'s chat list, newest first; `after` is the place of the last entry of the page before."""
    if place := PLACE.fullmatch(after):
        moment = EPOCH + timedelta(microseconds=int(place[1]))
        return await reader.fetch(FURTHER, me=me, active_at=moment, conversation_id=int(place[2]))
    return await reader.fetch(NEWEST, me=me)


async def unread(reader: Reader, me: int) -> int:
    """How many messages user `me` has not read, in all chats."""
    [total] = await reader.fetch(UNREAD, me=me)
    return int(total.unread)


async def of_session(reader: Reader, session_id: bytes | None) -> tuple[SignedIn, list[Entry]] | None:
    """The signed-in user and the first page of their list: what nearly every page needs, in one question."""
    rows = await reader.fetch(OF_SESSION, session_id=session_id) if session_id else []
    if not rows:
        return None
    [me, _], *_ = rows
    return me, [entry for _, entry in rows if entry is not None]


async def entries(reader: Reader, wanted: Iterable[tuple[int, int]]) -> list[Entry]:
    """Single entries of any users' lists; `wanted` are pairs of a conversation and a user."""
    conversations, users = zip(*wanted, strict=True)
    return await reader.fetch(ENTRIES, conversations=list(conversations), users=list(users))
