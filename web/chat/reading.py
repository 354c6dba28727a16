"""Reading: how far a participant got in a conversation."""

from typing import NamedTuple

from sqlalchemy import BigInteger, ColumnElement, bindparam, func, select, update

from web.data.models import Conversation, Message, Participant
from web.data.questions import Question, Reader


class State(NamedTuple):
    """Where a conversation stands for one participant."""

    version: int
    last_seq: int
    read_seq: int
    draft: str

    @property
    def unread(self) -> int:
        return max(0, self.last_seq - self.read_seq)


class ReadUpTo(NamedTuple):
    read_seq: int


_ME, _CONVERSATION, _VERSION = (bindparam(name, type_=BigInteger) for name in ("me", "conversation_id", "version"))
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
_LAST = select(Conversation.last_seq).where(Conversation.id == _CONVERSATION).scalar_subquery()


def _read_up_to(seq: ColumnElement[int]) -> Question[ReadUpTo]:
    return Question(
        ReadUpTo,
        update(Participant)
        .where(Participant.conversation_id == _CONVERSATION, Participant.user_id == _ME, Participant.read_seq < seq)
        .values(read_seq=seq)
        .returning(Participant.read_seq),
    )


READ = _read_up_to(_SHOWN.expression)
READ_SEQ = _read_up_to(func.least(bindparam("seq", type_=BigInteger), _LAST))


async def state(reader: Reader, me: int, conversation_id: int) -> State:
    """Where the conversation stands for its participant `me`."""
    found = await reader.fetch(STATE, me=me, conversation_id=conversation_id)
    return found[0] if found else State(0, 0, 0, "")  # nobody has written yet


async def mark(reader: Reader, me: int, conversation_id: int, version: int, /) -> bool:
    """Mark as read everything that a page at `version` shows. Returns whether that changed anything."""
    return bool(await reader.fetch(READ, me=me, conversation_id=conversation_id, version=version))


async def mark_to(reader: Reader, me: int, conversation_id: int, seq: int, /) -> bool:
    """Mark as read the messages up to `seq`; later ones are not in view yet. Returns whether that changed anything."""
    return bool(await reader.fetch(READ_SEQ, me=me, conversation_id=conversation_id, seq=seq))
