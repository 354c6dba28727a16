"""Chat lists: the chats of a user, newest first, each with its last message and how much of it is unread."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    bindparam,
    case,
    func,
    literal_column,
    select,
    true,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased

from web.accounts import sessions
from web.accounts.sessions import SignedIn
from web.data.models import Conversation, Message, Moment, Participant, User
from web.data.questions import Question, Reader, outer_join, pairs

PAGE = 50
PINNED = 4 * 10**15
"""Microseconds by which pinned chats are ahead. A browser's numbers are exact up to twice of that."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PLACE = re.compile(r"(\d{1,16})-(\d{1,18})")


class Entry(NamedTuple):
    """A chat in the list of user `user_id`: its name, its last message, and how far they have read."""

    user_id: int
    conversation_id: int
    name: str
    title: str
    """`name` for the eye: what its people want to be called."""
    avatar_hue: int | None
    body: str
    author_id: int
    active_at: datetime
    version: int
    last_seq: int
    read_seq: int
    draft: str
    draft_edition: int
    is_removed: bool
    """Whether the last message was removed."""
    seq: int
    """The last message's."""
    delivered_seq: int
    fallen: int
    their_delivered: int
    """How far the others got: all of them have these messages."""
    their_read: int
    """How far all the others read; 0 if one of them hides it, or the user."""
    told_seq: int
    """How far all the others were told on Telegram, at `told_at`."""
    told_at: datetime | None
    pinned: bool
    muted_until: datetime | None
    """Until when the user is told nothing of it."""
    starred: list[int] | None
    """The seqs of the messages that the user starred."""

    @property
    def mine(self) -> bool:
        """Whether the user wrote the last message."""
        return self.author_id == self.user_id

    @property
    def unread(self) -> int:
        return max(0, self.last_seq - self.read_seq)

    @property
    def edition(self) -> int:
        """Rises with everything that an entry shows, so of two entries for a chat the later one is known."""
        mine = self.version + self.read_seq + self.draft_edition + self.delivered_seq + self.fallen
        return mine + self.their_delivered + self.their_read + self.told_seq

    @property
    def undelivered(self) -> int:
        """The last message's seq, if no tab of the user is known to have it; else 0."""
        return self.seq if self.seq > max(self.delivered_seq, self.read_seq) else 0

    @property
    def state(self) -> str:
        """How far the last message got if it is the user's: sent, told (on Telegram), delivered or read."""
        if not self.mine or self.is_removed:
            return ""
        reached = {"read": self.their_read, "delivered": self.their_delivered, "told": self.told_seq}
        return next((state for state, seq in reached.items() if seq >= self.seq), "sent")

    @property
    def order(self) -> int:
        """Microseconds since 1970: the newest chat has the highest, and a pinned one a higher one."""
        return _microseconds(self.active_at) + PINNED * self.pinned

    @property
    def place(self) -> str:
        """The chat's place in the list, for the page after it. Messages of one commit have the same time."""
        return f"{self.order}-{self.conversation_id}"


# The messages of one transaction have the same time.
@lru_cache(256)
def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _seen(other: type[Participant], seq: Any) -> ColumnElement[int]:
    """How far somebody got, for the others. What is held from them counts as read, which its author must not see."""
    return func.min(func.least(seq, other.shown_seq))


def _entries(participant: type[Participant]) -> Select[*tuple[Any, ...]]:
    """The columns of Entry for these rows of Participant, each in its own user's list."""
    other, other_user = aliased(Participant), aliased(User)
    # The same name as Conversation.name gives it.
    separator: Any = aggregate_order_by(literal_column("', '"), other_user.id)
    others = (
        select(
            func.string_agg(other_user.username, separator).label("name"),
            func.string_agg(other_user.shown, separator).label("title"),
            func.min(other_user.hue).label("avatar_hue"),
            _seen(other, func.greatest(other.delivered_seq, other.read_seq)).label("their_delivered"),
            _seen(other, case((other_user.hides_reading, 0), else_=other.read_seq)).label("their_read"),
            func.min(other.told_seq).label("told_seq"),
            func.max(other.told_at).label("told_at"),
        )
        .join(other, other.user_id == other_user.id)
        .where(other.conversation_id == participant.conversation_id, other.user_id != participant.user_id)
        .lateral("others")
    )
    myself = aliased(User)
    hides = select(myself.hides_reading).where(myself.id == participant.user_id).scalar_subquery()
    last_shown = func.coalesce(participant.shown_seq, Conversation.last_seq)
    return (
        select(
            participant.user_id,
            participant.conversation_id,
            others.c.name,
            others.c.title,
            others.c.avatar_hue,
            Message.body,
            Message.author_id,
            participant.active_at,
            Conversation.version,
            Conversation.last_seq,
            participant.read_seq,
            participant.draft,
            participant.draft_edition,
            Message.removed_at.is_not(None).label("is_removed"),
            Message.seq,
            participant.delivered_seq,
            participant.fallen,
            others.c.their_delivered,
            case((hides, 0), else_=others.c.their_read).label("their_read"),
            others.c.told_seq,
            others.c.told_at,
            participant.pinned_at.is_not(None).label("pinned"),
            case((participant.muted_until > func.now(), participant.muted_until)).label("muted_until"),
            participant.starred,
        )
        .join(Conversation, Conversation.id == participant.conversation_id)
        .join(others, true())
        .join(Message, (Message.conversation_id == Conversation.id) & (Message.seq == last_shown))
    )


def _page(me: ColumnElement[int], *conditions: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    # Cut before joining anything to it, so that somebody with a thousand chats waits no longer than others.
    mine = select(Participant).where(Participant.user_id == me, Participant.active_at.is_not(None), *conditions)
    newest = mine.where(Participant.pinned_at.is_(None))
    newest = newest.order_by(Participant.active_at.desc(), Participant.conversation_id.desc()).limit(PAGE)
    return newest.correlate(User)


def _newest(page: Any) -> Select[*tuple[Any, ...]]:
    newest = aliased(Participant, page.subquery("newest"))
    return _entries(newest).order_by(
        newest.pinned_at.is_not(None).desc(), newest.active_at.desc(), newest.conversation_id.desc()
    )


def _first_page(me: ColumnElement[int]) -> Select[*tuple[Any, ...]]:
    """Pinned chats, which are few, and after them the newest of the others."""
    pinned = select(Participant).where(
        Participant.user_id == me, Participant.active_at.is_not(None), Participant.pinned_at.is_not(None)
    )
    return _newest(union_all(pinned.correlate(User), _page(me)))


_ME = bindparam("me", type_=BigInteger)
_BEFORE = tuple_(bindparam("active_at", type_=Moment), bindparam("conversation_id", type_=BigInteger))
NEWEST = Question(Entry, _first_page(_ME))
FURTHER = Question(Entry, _newest(_page(_ME, tuple_(Participant.active_at, Participant.conversation_id) < _BEFORE)))
_MINE = _first_page(User.id.expression).lateral("mine")
OF_SESSION = Question(
    outer_join(SignedIn, Entry),
    sessions.valid()
    .add_columns(*_MINE.c)
    .outerjoin(_MINE, true())
    .order_by(_MINE.c.pinned.desc(), _MINE.c.active_at.desc(), _MINE.c.conversation_id.desc()),
)


class Total(NamedTuple):
    unread: int


UNREAD = Question(
    Total,
    select(func.coalesce(func.sum(Conversation.last_seq - Participant.read_seq), 0).label("unread"))
    .select_from(Participant)
    .join(Conversation, Conversation.id == Participant.conversation_id)
    .where(
        Participant.user_id == _ME,
        Participant.active_at.is_not(None),
        func.coalesce(Participant.muted_until, EPOCH) <= func.now(),
    ),
)

_WANTED = pairs(conversation_id="conversations", user_id="users")
ENTRIES = Question(
    Entry,
    _entries(Participant)
    .join(
        _WANTED,
        (_WANTED.c.conversation_id == Participant.conversation_id) & (_WANTED.c.user_id == Participant.user_id),
    )
    .where(Participant.active_at.is_not(None)),
)


class Hidden(NamedTuple):
    conversation_id: int


HIDE = Question(
    Hidden,
    update(Participant)
    .where(
        Participant.conversation_id == bindparam("conversation_id", type_=BigInteger),
        Participant.user_id == _ME,
    )
    .values(active_at=None)
    .returning(Participant.conversation_id),
)


async def listed(reader: Reader, me: int, after: str = "") -> list[Entry]:
    """A page of user `me`'s chat list, newest first; `after` is the place of the last entry of the page before."""
    if place := PLACE.fullmatch(after):
        moment = EPOCH + timedelta(microseconds=int(place[1]))
        return await reader.fetch(FURTHER, me=me, active_at=moment, conversation_id=int(place[2]))
    return await reader.fetch(NEWEST, me=me)


async def hide(reader: Reader, me: int, conversation_id: int) -> None:
    """Take a chat out of user `me`'s list until its next message."""
    await reader.fetch(HIDE, me=me, conversation_id=conversation_id)


async def unread(reader: Reader, me: int) -> int:
    """How many messages user `me` has not read, in all chats that are not muted."""
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
