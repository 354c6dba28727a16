"""The outbox: the rows of notifications, from `pending` through `sending` to `sent`, `cancelled` or `failed`.

A row is written in the message's own transaction, so a crash afterwards loses nothing: the worker's sweep finds it.
`rules` decides what happens to it once it is due; this module writes that down.

A worker claims a row for as long as LEASE. If it dies, the row is due again when the lease ends. A worker that dies, or
stalls for that long, between Telegram's answer and the mark leaves a row that is sent twice: at most one for each of
its threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from web.data.models import OPEN_STATES, Notification, NotificationState, Participant, User
from web.live.presence import Presence
from web.notifications import rules
from web.notifications.push import PushError
from web.notifications.rules import MOMENT, TRIES, End, Occasion, Unread, Wait, has_card, is_due
from web.telegram.errors import TelegramError

BACKOFF = (1, 2, 4, 8, 30, 120, 300)
"""Seconds between one failed try and the next: a blip costs a moment, an outage of some minutes no message."""
LEASE = timedelta(seconds=20)
"""More than a call to Telegram and its mark take, and no delay that a user would mind."""
DELETABLE = timedelta(hours=47)
"""Telegram lets a bot delete messages younger than 48 hours."""
KEPT = timedelta(days=30)
"""How long finished rows are kept."""


@dataclass(frozen=True)
class Due:
    id: int
    due_at: datetime


@dataclass(frozen=True)
class Recipient:
    user_id: int
    chat_id: int | None
    language: str | None


@dataclass(frozen=True)
class Claim:
    """A notification to send now, and what is on its card."""

    id: int
    user_id: int
    conversation_id: int
    chat_id: int | None
    chat: str
    title: str
    messages: Sequence[Unread]
    first_seq: int
    pushed_seq: int
    """The last message that the user's devices were told of."""
    attempts: int
    """How many tries there were, with this one."""
    lease: datetime
    """The row is this claim's as long as it is due at that moment."""
    card_id: int | None
    """The card to edit; None to send a new one."""
    card_at: datetime | None


async def due(db: AsyncSession, limit: int = 500) -> Sequence[Due]:
    """The notifications that are due, those that have waited longest first."""
    query = select(Notification.id, Notification.due_at).where(is_due()).order_by(Notification.due_at).limit(limit)
    return [Due(**row._asdict()) for row in await db.execute(query)]


async def forget_old(db: AsyncSession, limit: int = 1000) -> int:
    """Delete rows that were finished long ago. Returns how many. The caller commits.

    The row of a conversation's newest card stays, since it says what its user has been notified of.
    """
    later = aliased(Notification)
    same = (later.user_id == Notification.user_id) & (later.conversation_id == Notification.conversation_id)
    has_later_card = exists().where(same, later.id > Notification.id, later.card_id.is_not(None))
    old = select(Notification.id).where(
        Notification.state.not_in(OPEN_STATES),
        Notification.due_at < func.now() - KEPT,
        Notification.card_id.is_(None) | has_later_card,
    )
    forgotten = delete(Notification).where(Notification.id.in_(old.limit(limit))).returning(Notification.id)
    return len((await db.scalars(forgotten)).all())


async def recipient(db: AsyncSession, notification_id: int) -> Recipient | None:
    """Whom to notify; None if the notification is not due."""
    query = (
        select(Notification.user_id, User.telegram_chat_id.label("chat_id"), User.telegram_language.label("language"))
        .join(User, User.id == Notification.user_id)
        .where(Notification.id == notification_id, is_due())
    )
    row = (await db.execute(query)).one_or_none()
    return Recipient(**row._asdict()) if row else None


async def postpone(db: AsyncSession, notification_id: int, why: str) -> None:
    """Try again in a moment, if it is still due. The caller commits."""
    await _update(db, (Notification.id == notification_id) & is_due(), due_at=func.now() + MOMENT, problem=why)


async def cancel(db: AsyncSession, notification_id: int, why: str) -> None:
    """Never send it, if it is still due. The caller commits."""
    mine = (Notification.id == notification_id) & is_due()
    await _update(db, mine, state=NotificationState.CANCELLED, problem=why)


async def claim(db: AsyncSession, notification_id: int, presence: Presence) -> Claim | None:
    """Claim it for as long as LEASE; None if it is not to be sent now. The caller commits."""
    occasion = await rules.read(db, notification_id, presence)
    if occasion is None:
        return None
    mine = Notification.id == notification_id
    match rules.objection(occasion):
        case Wait(until=until, why=why):
            await _update(db, mine, due_at=until, problem=why)
            return None
        case End(state=state, why=why):
            await _update(db, mine, state=state, problem=why)
            return None
    claim = _claim(occasion)
    sending = NotificationState.SENDING
    await _update(db, mine, state=sending, due_at=claim.lease, attempts=claim.attempts, problem=None)
    return claim


async def mark_sent(db: AsyncSession, claim: Claim, card_id: int | None) -> Sequence[int]:
    """It was sent, on this card, or None: to devices alone. Returns the ids of older cards, which are to be deleted.

    The caller commits.
    """
    rang = card_id != claim.card_id
    held = await _update(
        db,
        _is_held(claim),
        state=NotificationState.SENT,
        card_id=card_id,
        card_at=func.now() if rang else claim.card_at,
        first_seq=claim.first_seq,
        last_seq=claim.messages[-1].seq,
        sent_at=func.now(),
        problem=None,
    )
    if held and card_id is not None:
        mine = (Participant.user_id == claim.user_id) & (Participant.conversation_id == claim.conversation_id)
        await db.execute(update(Participant).where(mine).values(told_seq=claim.messages[-1].seq, told_at=func.now()))
    if not rang or not held:
        return []
    older = select(Notification.card_id).where(has_card(claim.user_id, claim.conversation_id))
    older = older.where(Notification.card_id != card_id, Notification.card_at > func.now() - DELETABLE)
    return [id for id in await db.scalars(older.distinct().limit(5)) if id is not None]


async def mark_deleted(db: AsyncSession, claim: Claim, card_id: int) -> None:
    """Telegram no longer shows that card. The caller commits."""
    shown = has_card(claim.user_id, claim.conversation_id) & (Notification.card_id == card_id)
    await _update(db, shown, card_id=None)


async def mark_refused(db: AsyncSession, claim: Claim, error: TelegramError | PushError) -> None:
    """It was not taken: it is tried again at the right time, or has failed. The caller commits."""
    changes: dict[str, object]
    if error.retry_after is not None:
        # A pause that Telegram demands does not count as a try.
        changes = {"due_at": func.now() + timedelta(seconds=error.retry_after), "attempts": claim.attempts - 1}
    elif error.permanent or claim.attempts >= TRIES:
        changes = {"state": NotificationState.FAILED}
    else:
        changes = {"due_at": func.now() + timedelta(seconds=BACKOFF[claim.attempts - 1])}
    await _update(db, _is_held(claim), problem=str(error), **changes)


async def pause(db: AsyncSession, chat_id: int, seconds: float) -> None:
    """Send nothing to this chat for so long. The caller commits."""
    until = func.now() + timedelta(seconds=seconds)
    await db.execute(update(User).where(User.telegram_chat_id == chat_id).values(telegram_not_before=until))


def _claim(at: Occasion) -> Claim:
    card = at.live_card
    return Claim(
        id=at.row.id,
        user_id=at.row.user_id,
        conversation_id=at.row.conversation_id,
        chat_id=at.row.chat_id,
        chat=at.chat,
        title=at.title,
        messages=at.unread,
        first_seq=at.first_seq,
        pushed_seq=at.row.pushed_seq,
        attempts=at.row.attempts + 1,
        lease=at.row.now + LEASE,
        card_id=card.card_id if card else None,
        card_at=card.card_at if card else None,
    )


def _is_held(claim: Claim) -> ColumnElement[bool]:
    """Whether the row is still this claim's: its lease may have ended, and another worker have claimed it."""
    is_sending = Notification.state == NotificationState.SENDING
    return (Notification.id == claim.id) & is_sending & (Notification.due_at == claim.lease)


async def _update(db: AsyncSession, where: ColumnElement[bool], **values: object) -> bool:
    """Returns whether there was such a row."""
    changed = await db.scalars(update(Notification).where(where).values(**values).returning(Notification.id))
    return len(changed.all()) > 0


async def age(db: AsyncSession) -> float:
    """Seconds for which the notification that is due first has been waiting; 0 if none is due."""
    waited = func.extract("epoch", func.now() - func.min(Notification.due_at))
    statement = select(waited).where(Notification.state.in_(OPEN_STATES), Notification.due_at < func.now())
    return float(await db.scalar(statement) or 0)
