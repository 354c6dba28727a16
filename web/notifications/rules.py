"""The rules: whom to notify of new messages on Telegram, of what, and when.

Each notification is decided on twice. The writer adds a row to the outbox for every recipient whom WANTS_NOTIFICATIONS
picks. Once the row is due, `read` reads everything again and `objection` decides whether to send it now.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Boolean, ColumnElement, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from web.data.models import OPEN_STATES, Conversation, Message, Notification, NotificationState, Participant, User
from web.live.presence import Presence

WANTS_NOTIFICATIONS = (
    "(token = 0 OR notify_when_away) AND (telegram_chat_id IS NOT NULL"
    " OR EXISTS (SELECT FROM push_devices WHERE push_devices.user_id = users.id))"
)
"""SQL: whether a row of `users` is of somebody who may want to be notified of a new message (promises T2 and T3)."""

TRIES = 8
SHOWN = 100
"""Messages that a card shows at most."""
CARD_LIFE = timedelta(seconds=60)
"""An older card is not edited but replaced by a new one, so that the phone rings."""
PACE = timedelta(seconds=3)
"""Between two changes of a card: Telegram allows about 20 edits a minute in a chat."""
LOOK_AGAIN = timedelta(seconds=30)
MOMENT = timedelta(seconds=1)


@dataclass(frozen=True)
class Candidate:
    """A notification that is due, and its user."""

    id: int
    user_id: int
    conversation_id: int
    first_seq: int
    attempts: int
    chat_id: int | None
    token: int
    is_wanted: bool
    """What WANTS_NOTIFICATIONS says of the user now."""
    not_before: datetime | None
    """When the pause ends that Telegram demanded for this chat."""
    read_seq: int
    is_muted: bool
    pushed_seq: int
    """The last message that the user's devices were told of, at `pushed_at`."""
    pushed_at: datetime | None
    now: datetime
    """PostgreSQL's clock."""


@dataclass(frozen=True)
class Card:
    """A message that Telegram shows, with something on it that the user has not read."""

    card_id: int
    card_at: datetime
    """When it rang."""
    sent_at: datetime
    """When it was last sent or edited."""
    first_seq: int
    last_seq: int


@dataclass(frozen=True)
class Unread:
    """A message for the card."""

    seq: int
    author: str
    body: str
    earlier: int
    """How many unread messages come before it."""


@dataclass(frozen=True)
class Occasion:
    """Everything that the rules look at, read at one moment."""

    row: Candidate
    chat: str
    """What the user calls the conversation; also their address of it, /chat/{chat}."""
    title: str
    """`chat` for the eye."""
    card: Card | None
    first_seq: int
    """The first message for the card: the row's first one, or an earlier one that is already on the card."""
    unread: Sequence[Unread]
    """The newest unread messages from there on, in order."""
    earlier_is_sending: bool
    """Whether another notification of the conversation is being sent to this user."""
    presence: Presence

    @property
    def live_card(self) -> Card | None:
        """The card to edit; None to send a new one."""
        return self.card if self.card and self.card.card_at > self.row.now - CARD_LIFE else None

    @property
    def told(self) -> tuple[int, datetime | None]:
        """The last message that the user was told of, and when that was: on Telegram, or else on their devices."""
        if self.card:
            return self.card.last_seq, self.card.sent_at
        return (0, None) if self.row.chat_id is not None else (self.row.pushed_seq, self.row.pushed_at)


@dataclass(frozen=True)
class Wait:
    until: datetime
    why: str


@dataclass(frozen=True)
class End:
    state: NotificationState
    why: str


def is_due() -> ColumnElement[bool]:
    return Notification.state.in_(OPEN_STATES) & (Notification.due_at <= func.now())


def has_card(user_id: int, conversation_id: int) -> ColumnElement[bool]:
    """Whether Telegram shows this user a card for a row of this conversation."""
    same = (Notification.user_id == user_id) & (Notification.conversation_id == conversation_id)
    return same & Notification.card_id.is_not(None)


async def read(db: AsyncSession, notification_id: int, presence: Presence) -> Occasion | None:
    """The occasion, with the row locked until the commit; None if the row is not due."""
    await _lock_conversation(db, notification_id)
    row = await _candidate(db, notification_id)
    if row is None:
        return None
    card = await _card(db, row)
    first_seq = min(row.first_seq, card.first_seq) if card else row.first_seq
    if row.chat_id is None and row.pushed_seq > row.read_seq:
        first_seq = row.read_seq + 1  # a device shows the new notice in place of the last one
    return Occasion(
        row=row,
        chat=await chat_name(db, row.user_id, row.conversation_id),
        title=await chat_name(db, row.user_id, row.conversation_id, User.shown),
        card=card,
        first_seq=first_seq,
        unread=await messages(
            db, row.user_id, row.conversation_id, Message.seq >= first_seq, Message.seq > row.read_seq
        ),
        earlier_is_sending=await _another_is_sending(db, row),
        presence=presence,
    )


def objection(occasion: Occasion) -> Wait | End | None:
    """Why not to send it now; None if nothing is against it."""
    return _unwanted(occasion) or _untimely(occasion)


def _unwanted(at: Occasion) -> Wait | End | None:
    """Why the user would not want it, or not yet (promises T2 to T4)."""
    row = at.row
    if not row.is_wanted:
        nowhere = "no Telegram account is linked, or logged in before it was sent"
        return End(NotificationState.CANCELLED, nowhere if row.chat_id is None else "logged in before it was sent")
    if row.is_muted:
        return End(NotificationState.CANCELLED, "the chat is muted")
    if not at.unread:
        return End(NotificationState.CANCELLED, "read or removed before it was sent")
    if at.unread[-1].seq <= at.told[0]:
        return End(NotificationState.CANCELLED, "sent already")
    if row.token == 1 and at.presence.live_for > 0:
        return Wait(row.now + timedelta(seconds=at.presence.live_for) + MOMENT, "the user is not away")
    if at.presence.in_view:
        return Wait(row.now + LOOK_AGAIN, "a tab is in view")
    return None


def _untimely(at: Occasion) -> Wait | End | None:
    """Why not to call Telegram at this moment (promises N2 and N3)."""
    row = at.row
    if row.attempts >= TRIES:
        return End(NotificationState.FAILED, "its worker died at every try")
    if row.not_before and row.not_before > row.now:
        return Wait(row.not_before, "Telegram demanded a pause")
    if at.earlier_is_sending:
        return Wait(row.now + MOMENT, "an earlier one of the conversation is being sent")
    if (told_at := at.told[1]) and told_at + PACE > row.now:
        return Wait(told_at + PACE, "the user was told a moment ago")
    return None


async def _lock_conversation(db: AsyncSession, notification_id: int) -> None:
    """Wait for messages that are being written, and let later ones wait for the commit.

    So the claim either reads a message, or the message's writer finds the row claimed and adds another one.
    """
    query = select(Conversation.id).join(Notification, Notification.conversation_id == Conversation.id)
    await db.execute(query.where(Notification.id == notification_id).with_for_update(read=True, of=Conversation))


async def _candidate(db: AsyncSession, notification_id: int) -> Candidate | None:
    member = (Participant.conversation_id == Notification.conversation_id) & (
        Participant.user_id == Notification.user_id
    )
    query = (
        select(
            Notification.id,
            Notification.user_id,
            Notification.conversation_id,
            Notification.first_seq,
            Notification.attempts,
            User.telegram_chat_id.label("chat_id"),
            User.token,
            literal_column(WANTS_NOTIFICATIONS, Boolean).label("is_wanted"),
            User.telegram_not_before.label("not_before"),
            Participant.read_seq,
            (func.coalesce(Participant.muted_until, func.now()) > func.now()).label("is_muted"),
            Participant.pushed_seq,
            Participant.pushed_at,
            func.now().label("now"),
        )
        .join(User, User.id == Notification.user_id)
        .join(Participant, member)
        .where(Notification.id == notification_id, is_due())
        .with_for_update(of=Notification)
    )
    row = (await db.execute(query)).one_or_none()
    return Candidate(**row._asdict()) if row else None


async def chat_name(db: AsyncSession, user_id: int, conversation_id: int, name: Any = User.username) -> str:
    """What the user calls the conversation."""
    others = select(name).join(Participant, Participant.user_id == User.id).order_by(User.id)
    others = others.where(Participant.conversation_id == conversation_id, User.id != user_id)
    return ", ".join(await db.scalars(others))


async def _card(db: AsyncSession, row: Candidate) -> Card | None:
    query = (
        select(
            Notification.card_id,
            Notification.card_at,
            Notification.sent_at.label("sent_at"),
            Notification.first_seq,
            Notification.last_seq,
        )
        .where(has_card(row.user_id, row.conversation_id), Notification.last_seq > row.read_seq)
        .order_by(Notification.id.desc())
        .limit(1)
    )
    card = (await db.execute(query)).one_or_none()
    return Card(**card._asdict()) if card else None


async def messages(
    db: AsyncSession, user_id: int, conversation_id: int, *which: ColumnElement[bool]
) -> Sequence[Unread]:
    """The newest of these messages that a card for this user may show, in order."""
    query = (
        select(
            Message.seq,
            User.shown.label("author"),
            Message.body,
            # Counted before the limit cuts the earlier ones off.
            (func.row_number().over(order_by=Message.seq) - 1).label("earlier"),
        )
        .join(User, User.id == Message.author_id)
        .where(
            Message.conversation_id == conversation_id,
            Message.author_id != user_id,
            Message.removed_at.is_(None),
            Message.held.is_(False),
            *which,
        )
        .order_by(Message.seq.desc())
        .limit(SHOWN)
    )
    return [Unread(**message._asdict()) for message in reversed((await db.execute(query)).all())]


async def _another_is_sending(db: AsyncSession, row: Candidate) -> bool:
    other = aliased(Notification)
    same = (other.user_id == row.user_id) & (other.conversation_id == row.conversation_id)
    query = select(other.id).where(same, other.state == NotificationState.SENDING, other.id != row.id)
    return await db.scalar(query) is not None
