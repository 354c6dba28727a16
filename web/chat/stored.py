"""Messages as PostgreSQL holds them, each with the message that it answers as that is now."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from web.chat.conversations import Message
from web.data import models
from web.data.questions import Question, Reader, outer_join, pairs

EXCERPT = 120
"""Characters of a message that a quote of it shows."""

_quoted = aliased(models.Message)


def _messages(*before: Any) -> Select[*tuple[Any, ...]]:
    """The columns of Message, after others."""
    table = models.Message
    return select(
        *before,
        table.seq,
        table.version,
        table.author_id,
        table.nonce,
        table.body,
        table.created_at,
        table.edited_at,
        table.removed_at,
        table.held,
        table.reply_to,
        _quoted.author_id.label("quoted_author_id"),
        case((_quoted.removed_at.is_(None), func.left(func.ltrim(_quoted.body, " \n\t"), EXCERPT))).label(
            "quoted_body"
        ),
        _quoted.edited_at.label("quoted_edited_at"),
        table.reactions,
    ).outerjoin(_quoted, (_quoted.conversation_id == table.conversation_id) & (_quoted.seq == table.reply_to))


MESSAGES = _messages()


class Place(NamedTuple):
    conversation_id: int
    seq: int


class _Conversation(NamedTuple):
    conversation_id: int


_WANTED = pairs(conversation_id="conversations", seq="seqs")
AT = Question(
    outer_join(_Conversation, Message),
    _messages(models.Message.conversation_id).join(
        _WANTED,
        (_WANTED.c.conversation_id == models.Message.conversation_id) & (_WANTED.c.seq == models.Message.seq),
    ),
)


async def at(reader: Reader, places: Collection[Place]) -> dict[Place, Message]:
    """The messages at these places."""
    if not places:
        return {}
    conversations, seqs = zip(*places, strict=True)
    rows = await reader.fetch(AT, conversations=list(conversations), seqs=list(seqs))
    return {Place(it.conversation_id, message.seq): message for it, message in rows if message is not None}


async def read(db: AsyncSession, conversation_id: int, seqs: Collection[int]) -> Sequence[Message]:
    """The messages with these `seq`, in their order, as this transaction sees them."""
    here = MESSAGES.where(models.Message.conversation_id == conversation_id, models.Message.seq.in_(seqs))
    return [Message(*row) for row in await db.execute(here.order_by(models.Message.seq))]
