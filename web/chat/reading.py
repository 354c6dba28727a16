"""Reading: how far a participant got in a conversation.

`delivered_seq` is the newest message that a tab of theirs has, `read_seq` the newest one that was in view. Both are for
all their devices, and only rise, unless they mark something as unread.
"""

from typing import NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Update, bindparam, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from web.data.models import Conversation, Message, Participant, User
from web.data.questions import Question, Reader
from web.notifications import mending


class State(NamedTuple):
    """Where a conversation stands for one participant."""

    version: int
    last_seq: int
    read_seq: int
    draft: str

    @property
    def unread(self) -> int:
        return max(0, self.last_seq - self.read_seq)


class Moved(NamedTuple):
    """A chat whose entry has changed in the list of that user."""

    conversation_id: int
    user_id: int


def _bigint(name: str) -> ColumnElement[int]:
    return bindparam(name, type_=BigInteger)


_ME, _CONVERSATION, _VERSION, _SEQ = map(_bigint, ("me", "conversation_id", "version", "seq"))
STATE = Question(
    State,
    select(Conversation.version, Conversation.last_seq, Participant.read_seq, Participant.draft)
    .join(Participant, Participant.conversation_id == Conversation.id)
    .where(Conversation.id == _CONVERSATION, Participant.user_id == _ME),
)

# A message's version is never below its seq, so the index leads to the place, however old the page is.
_SHOWN = (
    select(func.max(Message.seq))
    .where(
        Message.conversation_id == _CONVERSATION,
        Message.seq <= _VERSION,
        Message.version <= _VERSION,
    )
    .scalar_subquery()
)
_LAST = select(Conversation.last_seq).where(Conversation.id == Participant.conversation_id).scalar_subquery()
_HERE = (Participant.conversation_id == _CONVERSATION) & (Participant.user_id == _ME)


def _moved(statement: Update, *, cards: bool = False) -> Question[Moved]:
    """The question that moves user `me` on. The answer is everybody's entries that change by that.

    `cards`: Telegram's cards of what they read are out of date.
    """
    moved = statement.returning(Participant.conversation_id, Participant.user_id, Participant.read_seq).cte("moved")
    everybody = select(Participant.conversation_id, Participant.user_id).join(
        moved, moved.c.conversation_id == Participant.conversation_id
    )
    if cards:
        everybody = everybody.add_cte(mending.stale(moved.c).cte("stale"))
    return Question(Moved, everybody)


def _read_up_to(seq: ColumnElement[int]) -> Question[Moved]:
    return _moved(update(Participant).where(_HERE, Participant.read_seq < seq).values(read_seq=seq), cards=True)


def _delivered_up_to(seq: ColumnElement[int], *where: ColumnElement[bool]) -> Question[Moved]:
    got = func.greatest(Participant.delivered_seq, Participant.read_seq)
    return _moved(update(Participant).where(got < seq, *where).values(delivered_seq=seq))


READ = _read_up_to(_SHOWN.expression)
READ_SEQ = _read_up_to(func.least(_SEQ, _LAST))
DELIVERED = _delivered_up_to(func.least(_SEQ, _LAST), _HERE)
LIST_DELIVERED = _delivered_up_to(_LAST.expression, Participant.user_id == _ME, Participant.active_at.is_not(None))


async def state(reader: Reader, me: int, conversation_id: int) -> State:
    """Where the conversation stands for its participant `me`."""
    found = await reader.fetch(STATE, me=me, conversation_id=conversation_id)
    return found[0] if found else State(0, 0, 0, "")  # nobody has written yet


async def mark(reader: Reader, me: int, conversation_id: int, version: int, /) -> list[Moved]:
    """Mark as read everything that a page at `version` shows. Returns the entries that changed by that."""
    return await reader.fetch(READ, me=me, conversation_id=conversation_id, version=version)


async def mark_to(reader: Reader, me: int, conversation_id: int, seq: int, /) -> list[Moved]:
    """Mark as read the messages up to `seq`; later ones are not in view yet. Returns as `mark`."""
    return await reader.fetch(READ_SEQ, me=me, conversation_id=conversation_id, seq=seq)


async def deliver(reader: Reader, me: int, conversation_id: int, seq: int, /) -> list[Moved]:
    """A tab of user `me` has the messages up to `seq`. Returns as `mark`."""
    return await reader.fetch(DELIVERED, me=me, conversation_id=conversation_id, seq=seq)


async def deliver_list(reader: Reader, me: int) -> list[Moved]:
    """A tab of user `me` has the last messages of all chats in their list. Returns as `mark`."""
    return await reader.fetch(LIST_DELIVERED, me=me)


async def mark_unread(db: AsyncSession, me: int, conversation_id: int, seq: int) -> None:
    """Mark as unread what this user has read from the message `seq` on. The caller commits."""
    if seq < 1:
        return
    here = Participant.conversation_id == conversation_id
    mine = aliased(Participant)
    fall = select(mine.read_seq - seq + 1).where(mine.conversation_id == conversation_id, mine.user_id == me)
    fallen = fall.with_for_update().scalar_subquery()
    values = {
        "read_seq": case((Participant.user_id == me, seq - 1), else_=Participant.read_seq),
        "delivered_seq": func.greatest(Participant.delivered_seq, Participant.read_seq),
        "fallen": Participant.fallen + fallen + 1,
    }
    await db.execute(update(Participant).where(here, fallen > 0).values(values))


async def hide(db: AsyncSession, me: int, *, hides: bool) -> list[Moved]:
    """Hide how far this user reads, and from them how far the others do; or no longer. Returns as `mark`.

    The caller commits.
    """
    changed = update(User).where(User.id == me, User.hides_reading != hides).values(hides_reading=hides)
    if not (await db.execute(changed.returning(User.id))).all():
        return []
    mine = aliased(Participant)
    chats = select(mine.conversation_id).where(mine.user_id == me, mine.active_at.is_not(None))
    fall = select(Conversation.last_seq).where(Conversation.id == Participant.conversation_id).scalar_subquery()
    entries = (
        update(Participant).where(Participant.conversation_id.in_(chats)).values(fallen=Participant.fallen + fall + 1)
    )
    return [
        Moved(*row) for row in await db.execute(entries.returning(Participant.conversation_id, Participant.user_id))
    ]
