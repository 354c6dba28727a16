"""Answers: a message may quote another one of its conversation, by its `seq` and never by a copy of its text."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from web.chat.conversations import Conversation
from web.chat.refusals import Cause, Refused
from web.data.models import Message
from web.data.questions import Question, Reader
from web.words import Sentence

LIVE = 200
"""Messages that are shown anew when the one that they quote is edited or removed: the newest, which pages may hold."""


class Quotable(NamedTuple):
    seq: int
    held: bool
    author_id: int


QUOTABLE = Question(
    Quotable,
    select(Message.seq, Message.held, Message.author_id).where(
        Message.conversation_id == bindparam("conversation_id", type_=BigInteger),
        Message.seq == bindparam("seq", type_=BigInteger),
    ),
)


async def check(reader: Reader, conversation: Conversation, me: int, reply_to: str) -> int | None:
    """The `seq` of the message that is answered. Raises Refused if this participant sees no such message.

    None if it is held from those who get the answer: they must not learn of it, nor its author of that.
    """
    seq = int(reply_to) if reply_to.isascii() and reply_to.isdigit() and len(reply_to) < 19 else 0
    found = await reader.fetch(QUOTABLE, conversation_id=conversation.id, seq=seq)
    if not found or (found[0].held and found[0].author_id != me):
        raise Refused(Cause.NOTHING, Sentence("The message that you answer is not in this chat."))
    return None if found[0].held and not conversation.is_blocked(me) else seq


async def of(db: AsyncSession, it: Message) -> Sequence[Message]:
    """The newest messages that quote this one."""
    query = select(Message).where(Message.conversation_id == it.conversation_id, Message.reply_to == it.seq)
    return (await db.scalars(query.order_by(Message.seq.desc()).limit(LIVE))).all()
