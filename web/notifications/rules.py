"""Whether a notification is to be told of now: what is known at the moment, and what speaks against it.

The rules are those of `web/notifications.py`, which explains them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from web.data.models import OPEN_STATES, Conversation, Message, Notification, NotificationState, Participant, User
from web.live.presence import Presence

WANTS_NOTIFICATIONS = "telegram_chat_id IS NOT NULL AND (token = 0 OR notify_when_away)"
"""SQL: whether a row of `users` is of somebody who may want to be notified of a new message (promises T2 and T3)."""

TRIES = 8
SHOWN = 100
"""Messages that a card shows at the most."""
CARD_LIFE = timedelta(seconds=60)
"""An older card is not edited: another one is sent, so that the phone rings."""
PACE = timedelta(seconds=3)
"""Between two changes of a card."""
LOOK_AGAIN = timedelta(seconds=30)
MOMENT = timedelta(seconds=1)


@dataclass(frozen=True)
class Occasion:
    """All that bears on telling of a row, read at one moment."""

    row: Notification
    user: User
    author: str
    """The username of who wrote the messages."""
    card: Notification | None
    """The row of the card that Telegram shows now; None where there is none, or everything on it was read."""
    first_seq: int
    """The first message that this card tells of, or would."""
    newest: Sequence[Message]
    """The newest unread messages from there on, in their order."""
    unread: int
    """How many there are in all."""
    earlier_is_sending: bool
    """Whether another row of the conversation is being told of."""
    presence: Presence
    now: datetime
    """PostgreSQL's."""

    @property
    def live_card(self) -> Notification | None:
        """The card that this would be an edit of."""
        young = self.card is not None and self.card.card_at is not None and self.card.card_at > self.now - CARD_LIFE
        return self.card if young else None


@dataclass(frozen=True)
class Wait:
    until: datetime
    why: str


@dataclass(frozen=True)
class End:
    state: NotificationState
    why: str


def is_due() -> ColumnElement[bool]:
    """The condition that a row's turn has come and it is not done with."""
    return Notification.state.in_(OPEN_STATES) & (Notification.due_at <= func.now())


def has_card(user_id: int, conversation_id: int) -> ColumnElement[bool]:
    """The condition that Telegram shows a card of a row of this conversation to the user."""
    same = (Notification.user_id == user_id) & (Notification.conversation_id == conversation_id)
    return same & Notification.card_id.is_not(None)


async def read(db: AsyncSession, notification_id: int, presence: Presence) -> Occasion | None:
    """The occasion, with the row locked until the commit; None where its turn has not come, or it is done with."""
    conversation = await _lock_conversation(db, notification_id)
    member = (Participant.conversation_id == Notification.conversation_id) & (
        Participant.user_id == Notification.user_id
    )
    query = (
        select(Notification, User, Participant.read_seq, func.now())
        .join(User, User.id == Notification.user_id)
        .join(Participant, member)
        .where(Notification.id == notification_id, is_due())
        .with_for_update(of=Notification)
    )
    found = (await db.execute(query)).one_or_none()
    if conversation is None or found is None:
        return None
    row, user, read_seq, now = found
    card = await _card(db, row, read_seq)
    first_seq = min(row.first_seq, card.first_seq) if card else row.first_seq
    newest, unread = await _unread(db, row, first_seq, read_seq)
    return Occasion(
        row=row,
        user=user,
        author=await _other(db, conversation, user.id),
        card=card,
        first_seq=first_seq,
        newest=newest,
        unread=unread,
        earlier_is_sending=await _another_is_sending(db, row),
        presence=presence,
        now=now,
    )


def objection(occasion: Occasion) -> Wait | End | None:
    """What speaks against telling now; None where nothing does."""
    return _unwanted(occasion) or _untimely(occasion)


def _unwanted(at: Occasion) -> Wait | End | None:
    """Why the user would not like to be told, or not yet."""
    if at.user.telegram_chat_id is None:
        return End(NotificationState.CANCELLED, "no Telegram account is linked")
    if not at.newest:
        return End(NotificationState.CANCELLED, "read before it was told")
    if at.card and at.newest[-1].seq <= (at.card.last_seq or 0):
        return End(NotificationState.CANCELLED, "told already")
    if at.user.token == 1 and not at.user.notify_when_away:
        return End(NotificationState.CANCELLED, "logged in before it was told")
    if at.user.token == 1 and at.presence.live_for > 0:
        return Wait(at.now + timedelta(seconds=at.presence.live_for) + MOMENT, "the user is not away")
    if at.presence.in_view:
        return Wait(at.now + LOOK_AGAIN, "a tab is in view")
    return None


def _untimely(at: Occasion) -> Wait | End | None:
    """Why this is not the moment to speak to Telegram."""
    if at.row.attempts >= TRIES:
        return End(NotificationState.FAILED, "its worker died at every try")
    if at.user.telegram_not_before and at.user.telegram_not_before > at.now:
        return Wait(at.user.telegram_not_before, "Telegram asked for a pause")
    if at.earlier_is_sending:
        return Wait(at.now + MOMENT, "an earlier one of the conversation is being told of")
    if at.card and at.card.sent_at and at.card.sent_at + PACE > at.now:
        return Wait(at.card.sent_at + PACE, "the card was changed a moment ago")
    return None


async def _lock_conversation(db: AsyncSession, notification_id: int) -> Conversation | None:
    """Wait for messages that are being written, and let others wait: they find the row claimed, and write another."""
    query = select(Conversation).join(Notification, Notification.conversation_id == Conversation.id)
    query = query.where(Notification.id == notification_id).with_for_update(read=True, of=Conversation)
    return (await db.scalars(query)).one_or_none()


async def _other(db: AsyncSession, conversation: Conversation, user_id: int) -> str:
    sides = (conversation.low_user_id, conversation.high_user_id)
    query = select(User.username).where(User.id.in_(sides), User.id != user_id)
    return (await db.scalars(query)).one()


async def _card(db: AsyncSession, row: Notification, read_seq: int) -> Notification | None:
    query = select(Notification).where(has_card(row.user_id, row.conversation_id))
    query = query.where(Notification.state == NotificationState.SENT).order_by(Notification.id.desc()).limit(1)
    card = (await db.scalars(query)).one_or_none()
    return card if card and (card.last_seq or 0) > read_seq else None


async def _unread(db: AsyncSession, row: Notification, first_seq: int, read_seq: int) -> tuple[list[Message], int]:
    query = select(Message, func.count().over()).where(
        Message.conversation_id == row.conversation_id,
        Message.seq >= first_seq,
        Message.seq > read_seq,
        Message.author_id != row.user_id,
    )
    rows = (await db.execute(query.order_by(Message.seq.desc()).limit(SHOWN))).all()
    return [message for message, _ in reversed(rows)], rows[0][1] if rows else 0


async def _another_is_sending(db: AsyncSession, row: Notification) -> bool:
    other = aliased(Notification)
    same = (other.user_id == row.user_id) & (other.conversation_id == row.conversation_id)
    query = select(other.id).where(same, other.state == NotificationState.SENDING, other.id != row.id)
    return await db.scalar(query) is not None
