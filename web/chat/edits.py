"""Edits and removals by a message's author. Earlier texts are kept for both people, and go when the message does."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from web.chat import changes, messages
from web.chat.conversations import Conversation
from web.chat.refusals import Cause, Refused
from web.data.models import EarlierText, Message
from web.words import Sentence

NOT_YOURS = Sentence("Only its author can change a message.")


async def edit(
    db: AsyncSession, conversation: Conversation, me: int, it: Message, body: str, version: int | None = None
) -> None:
    """Give it another body. `version`, if given, is that of the message that its author looked at."""
    if it.author_id != me:
        raise Refused(Cause.AUTHOR, NOT_YOURS)
    changes.check_blocks(conversation, me, it)
    body = messages.checked(body)
    if body == it.body:
        return
    if version is not None and any(text.version >= version for text in await earlier(db, it.conversation_id, it.seq)):
        raise Refused(
            Cause.NEWER,
            Sentence("This message was edited in another place meanwhile. Look at it; sending this again replaces it."),
        )
    replaced = {"conversation_id": it.conversation_id, "seq": it.seq, "version": it.version, "body": it.body}
    db.add(EarlierText(**replaced, written_at=it.edited_at or it.created_at))
    it.body, it.edited_at = body, func.now()


async def remove(db: AsyncSession, _conversation: Conversation, me: int, it: Message) -> None:
    """Take away, for good, what it says and said; only a trace of it stays."""
    if it.author_id != me:
        raise Refused(Cause.AUTHOR, NOT_YOURS)
    await db.execute(
        delete(EarlierText).where(EarlierText.conversation_id == it.conversation_id, EarlierText.seq == it.seq)
    )
    it.body, it.reply_to, it.reactions, it.removed_at = "", None, None, func.now()


async def earlier(db: AsyncSession, conversation_id: int, seq: int) -> Sequence[EarlierText]:
    """What a message said before its edits, oldest first."""
    query = select(EarlierText).where(EarlierText.conversation_id == conversation_id, EarlierText.seq == seq)
    return (await db.scalars(query.order_by(EarlierText.version))).all()
