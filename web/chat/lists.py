"""Chat lists: a user's chats, the newest first, each as an entry with its last line and what they have not read."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Select, bindparam, case, column, func, select, true, tuple_
from sqlalchemy.orm import aliased

from web.accounts import sessions
from web.accounts.sessions import SignedIn
from web.data.models import Conversation, Message, Moment, Participant, User
from web.data.questions import Question, Reader

PAGE = 50
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PLACE = re.compile(r"(\d{1,16})-(\d{1,18})")


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


def _entries(participant: type[Participant]) -> Select[*tuple[Any, ...]]:
    """The entries of these rows of Participant, each in its own user's list."""
    me = participant.user_id
    other = aliased(User)
    other_id = case((Conversation.low_user_id == me, Conversation.high_user_id), else_=Conversation.low_user_id)
    return (
        select(
            participant.user_id,
            participant.conversation_id,
            other.username,
            Message.body,
            Message.author_id,
            participant.active_at,
            Conversation.version,
            Conversation.last_seq,
            participant.read_seq,
        )
        .join(Conversation, Conversation.id == participant.conversation_id)
        .join(other, other.id == other_id)
        .join(Message, (Message.conversation_id == Conversation.id) & (Message.seq == Conversation.last_seq))
    )


def _newest(me: ColumnElement[int], *conditions: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    # The page is cut before anything is joined to it: who has a thousand chats waits for no more of them than others.
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
NEWEST = Question(_newest(_ME))
FURTHER = Question(_newest(_ME, tuple_(Participant.active_at, Participant.conversation_id) < _BEFORE))
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
    _entries(Participant).join(
        _ASKED,
        (_ASKED.c.conversation_id == Participant.conversation_id) & (_ASKED.c.user_id == Participant.user_id),
    )
)


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
    """Single chats of anybody's list, as pairs of a user and an entry; asked for by conversation and user."""
    conversations, users = zip(*asked, strict=True)
    rows = await reader.ask(LINES, conversations=list(conversations), users=list(users))
    return [(row[0], _entry(*row)) for row in rows]


def _entry(me: int, conversation_id: int, username: str, body: str, author_id: int, *rest: Any) -> Entry:
    return Entry(conversation_id, username, body, author_id == me, *rest)
