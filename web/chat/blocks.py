"""Blocking: nothing of that person arrives any more, and they are not told.

What they send is kept as held, for their own eyes only, and stays so when they are unblocked.
"""

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from web.accounts import users
from web.chat.conversations import Conversation
from web.data import models
from web.data.models import Block, Participant, User


async def block(db: AsyncSession, conversation: Conversation, me: int) -> None:
    """Block the others, whose messages count as read. Commit, then notify with PEOPLE_CHANGED."""
    rows = [{"user_id": me, "blocked_id": person.id} for person in conversation.others(me)]
    await db.execute(insert(Block).values(rows).on_conflict_do_nothing())
    newest = select(models.Conversation.last_seq).where(models.Conversation.id == conversation.id).scalar_subquery()
    mine = (Participant.conversation_id == conversation.id) & (Participant.user_id == me)
    await db.execute(update(Participant).where(mine).values(read_seq=newest))


async def unblock(db: AsyncSession, conversation: Conversation, me: int) -> None:
    """Let messages of the others arrive from now on. Commit, then notify with PEOPLE_CHANGED."""
    others = [person.id for person in conversation.others(me)]
    await db.execute(delete(Block).where(Block.user_id == me, Block.blocked_id.in_(others)))


async def listed(db: AsyncSession, me: int) -> list[str]:
    """The names of those whom this user blocks, in order."""
    query = select(User.username).join(Block, Block.blocked_id == User.id).where(Block.user_id == me)
    return list(await db.scalars(query.order_by(users.folded_name())))
