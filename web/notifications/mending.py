"""Cards whose messages were edited, removed or read after they were sent: shown as they are now, without a sound.

A row of `stale_cards` commits with the change. A worker takes it for as long as LEASE; one that dies leaves it for the
next. A change that comes meanwhile makes the row due again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, delete, func, select, union, update
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from web.data.models import Message, Notification, NotificationState, Participant, StaleCard, User
from web.notifications import rules
from web.notifications.outbox import DELETABLE, LEASE
from web.notifications.rules import PACE, Unread, has_card


@dataclass(frozen=True)
class Mending:
    """A card to mend, and what is to be on it."""

    notification_id: int
    lease: datetime
    user_id: int
    conversation_id: int
    chat_id: int
    card_id: int
    is_deletable: bool
    is_read: bool
    """Whether the user has read all that was on it."""
    language: str | None
    chat: str
    messages: Sequence[Unread]


async def mark(db: AsyncSession, conversation_id: int, seq: int) -> None:
    """The message has changed, so the cards that show it are to be mended, and those that are just being sent."""
    shows = (Notification.first_seq <= seq) & (Notification.last_seq >= seq)
    await db.execute(_stale(shows, Notification.conversation_id == conversation_id))


def stale(reading: Any) -> Insert:
    """The statement for `mark` where a user has read what their cards show; `reading` are columns of `participants`."""
    theirs = (Notification.user_id == reading.user_id) & (Notification.conversation_id == reading.conversation_id)
    return _stale(Notification.first_seq <= reading.read_seq, theirs)


def _stale(shows: ColumnElement[bool], *where: ColumnElement[bool]) -> Insert:
    # The last row of a card knows of everything that is on it.
    cards = select(func.max(Notification.id), func.now()).where(shows, Notification.card_id.is_not(None), *where)
    sending = select(Notification.id, func.now()).where(Notification.state == NotificationState.SENDING, *where)
    both = union(cards.group_by(Notification.user_id, Notification.card_id), sending)  # each by an index of its own
    marked = insert(StaleCard).from_select(["notification_id", "due_at"], both)
    return marked.on_conflict_do_update(index_elements=["notification_id"], set_={"due_at": marked.excluded.due_at})


async def take(db: AsyncSession) -> Sequence[int]:
    """The ids of notifications whose card is to be mended; nobody else gets them for LEASE. The caller commits."""
    due = StaleCard.due_at <= func.now()
    taken = update(StaleCard).where(due).values(due_at=func.now() + LEASE).returning(StaleCard.notification_id)
    return (await db.scalars(taken)).all()


async def chat_id(db: AsyncSession, notification_id: int) -> int:
    """Whose card it is, in Telegram; 0 if Telegram is no longer linked."""
    query = select(User.telegram_chat_id).join(Notification, Notification.user_id == User.id)
    return await db.scalar(query.where(Notification.id == notification_id)) or 0


async def read(db: AsyncSession, notification_id: int) -> Mending | None:
    """What to mend, or None if it is not to be mended now. The caller commits."""
    other = aliased(Notification)
    same = (other.user_id == Notification.user_id) & (other.conversation_id == Notification.conversation_id)
    is_sending = select(other.id).where(same, other.state == NotificationState.SENDING).exists()
    later = select(other.id).where(same, other.card_id == Notification.card_id, other.id > Notification.id).exists()
    ready_at = func.greatest(Notification.sent_at.expression + PACE, User.telegram_not_before)
    query = (
        select(
            Notification,
            User.telegram_chat_id,
            StaleCard.due_at,
            case((is_sending | (ready_at > func.now()), func.greatest(ready_at, func.now() + PACE))).label("wait"),
            # Then it was sent again since, and the row of that knows what is on it.
            later.label("is_over"),
            (Notification.card_at > func.now() - DELETABLE).label("is_deletable"),
            User.telegram_language,
        )
        .join(User, User.id == Notification.user_id)
        .join(StaleCard, StaleCard.notification_id == Notification.id)
        .where(Notification.id == notification_id)
    )
    row = (await db.execute(query)).one_or_none()
    if row is None:
        return None
    notification, chat, lease, wait, is_over, is_deletable, language = row
    this = StaleCard.notification_id == notification_id
    if wait is not None:
        await db.execute(update(StaleCard).where(this).values(due_at=wait))
        return None
    if is_over or chat is None or notification.card_id is None:
        await db.execute(delete(StaleCard).where(this))
        return None
    user_id, conversation_id = notification.user_id, notification.conversation_id
    mine = (Participant.user_id == user_id) & (Participant.conversation_id == conversation_id)
    read_seq = (await db.scalars(select(Participant.read_seq).where(mine))).one()
    first_seq = max(notification.first_seq, read_seq + 1)
    return Mending(
        notification_id,
        lease,
        user_id,
        conversation_id,
        chat,
        notification.card_id,
        is_deletable,
        read_seq >= notification.last_seq,
        language,
        await rules.chat_name(db, user_id, conversation_id),
        await rules.messages(db, user_id, conversation_id, Message.seq.between(first_seq, notification.last_seq)),
    )


async def mark_mended(db: AsyncSession, mending: Mending, card_id: int | None) -> None:
    """The card is right, or None: there is none any more. A change that came meanwhile waits. The caller commits."""
    done = (StaleCard.notification_id == mending.notification_id) & (StaleCard.due_at == mending.lease)
    await db.execute(delete(StaleCard).where(done))
    shown = has_card(mending.user_id, mending.conversation_id) & (Notification.card_id == mending.card_id)
    await db.execute(update(Notification).where(shown).values(card_id=card_id, sent_at=func.now()))
