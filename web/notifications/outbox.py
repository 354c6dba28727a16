"""The outbox: whom to tell of what, on Telegram, and what became of it.

The row is written in the message's own transaction, so whatever crashes afterwards, it is there, and the worker's sweep
finds it. It goes from `pending` through `sending` (claimed until `due_at`; a worker that dies is succeeded then, and a
try that failed is repeated then) to `sent`, `cancelled` or `failed`. A row that has to wait stays what it is, with a
later `due_at`.

Everything is read again when a row is claimed, under the conversation's lock, so a message is either seen by the claim
or comes after it and gets a row of its own. Telegram is not told

- of what was read meanwhile, or by a user who unlinked: the row is cancelled;
- by a user whose token is 1, unless they want to be told when they are away (no tab live for two minutes): while they
  are not, the row waits, and otherwise it is cancelled;
- while a tab of theirs is in view: the row waits half a minute;
- before a pause that Telegram asked for is over;
- while another row of the conversation is being told of, or within three seconds of it: a burst is one card, edited.

A card older than a minute is not edited but sent anew, since an edit does not ring, and the old one is taken away.
A try that failed is repeated later and later, up to eight times. A crash between Telegram's answer and the mark lets
the lease end and the row be told of again: a double, at most one for each thread of the worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from web.data.models import OPEN_STATES, Notification, NotificationState, User
from web.live.presence import Presence
from web.notifications import rules
from web.notifications.rules import MOMENT, TRIES, Occasion, Wait, has_card, is_due
from web.telegram.errors import TelegramError

BACKOFF = (1, 2, 4, 8, 30, 120, 300)
"""Seconds between one failed try and the next: a blip costs a moment, an outage of some minutes no message."""
LEASE = timedelta(seconds=20)
"""More than a call to Telegram and its mark take, less than what a user would call late."""
DELETABLE = timedelta(hours=47)
"""Telegram lets a bot delete what is younger than 48 hours."""
KEPT = timedelta(days=30)
"""For so long a row that is done with says what became of it."""


@dataclass(frozen=True)
class Due:
    """A row whose turn it is, and the chat that it would be told to."""

    id: int
    user_id: int
    chat_id: int | None


@dataclass(frozen=True)
class Claim:
    """A row to be told of now, and what there is to tell."""

    id: int
    user_id: int
    conversation_id: int
    chat_id: int
    author: str
    bodies: Sequence[str]
    """The newest messages, in their order."""
    earlier: int
    """How many unread ones come before them."""
    first_seq: int
    last_seq: int
    attempts: int
    lease: datetime
    card_id: int | None
    """The card to edit; None for a new one."""
    card_at: datetime | None


async def due(db: AsyncSession, limit: int = 500) -> Sequence[tuple[int, datetime]]:
    """The ids of rows whose turn it is, each with the moment since when, the longest waiting first."""
    query = select(Notification.id, Notification.due_at).where(is_due())
    return [(row.id, row.due_at) for row in await db.execute(query.order_by(Notification.due_at).limit(limit))]


async def forget_old(db: AsyncSession, limit: int = 1000) -> int:
    """Delete rows that were done with long ago. Returns how many they were. The caller commits.

    The one of a conversation's newest card stays, since it says what its user was told of.
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


async def find(db: AsyncSession, notification_id: int) -> Due | None:
    """The row, where its turn has come and it is not done with."""
    query = select(Notification.id, User.id, User.telegram_chat_id).join(User, User.id == Notification.user_id)
    row = (await db.execute(query.where(Notification.id == notification_id, is_due()))).one_or_none()
    return Due(*row) if row else None


async def postpone(db: AsyncSession, notification_id: int, why: str) -> None:
    """Look again in a moment. The caller commits."""
    mine = (Notification.id == notification_id) & is_due()
    await db.execute(update(Notification).where(mine).values(due_at=func.now() + MOMENT, problem=why))


async def cancel(db: AsyncSession, notification_id: int, why: str) -> None:
    """Nobody wants it any longer. The caller commits."""
    mine = (Notification.id == notification_id) & is_due()
    await db.execute(update(Notification).where(mine).values(state=NotificationState.CANCELLED, problem=why))


async def claim(db: AsyncSession, notification_id: int, presence: Presence) -> Claim | None:
    """Take the row, for as long as LEASE; None where there is nothing to tell, or not now. The caller commits."""
    occasion = await rules.read(db, notification_id, presence)
    if occasion is None:
        return None
    row, chat_id = occasion.row, occasion.user.telegram_chat_id
    objection = rules.objection(occasion)
    if isinstance(objection, Wait):
        row.due_at, row.problem = objection.until, objection.why
    elif objection is not None:
        row.state, row.problem = objection.state, objection.why
    if objection is not None or chat_id is None:
        return None
    row.state, row.due_at, row.attempts, row.problem = (
        NotificationState.SENDING,
        occasion.now + LEASE,
        row.attempts + 1,
        None,
    )
    return _claim(occasion, chat_id)


async def mark_sent(db: AsyncSession, claim: Claim, card_id: int) -> Sequence[int]:
    """Telegram was told, on this card. Returns the ids of older ones, to be taken away. The caller commits."""
    rang = card_id != claim.card_id
    values = {
        "state": NotificationState.SENT,
        "card_id": card_id,
        "card_at": func.now() if rang else claim.card_at,
        "first_seq": claim.first_seq,
        "last_seq": claim.last_seq,
        "sent_at": func.now(),
        "problem": None,
    }
    await db.execute(update(Notification).where(_is_held(claim)).values(values))
    if not rang:
        return []
    older = select(Notification.card_id).where(has_card(claim.user_id, claim.conversation_id))
    older = older.where(Notification.card_id != card_id, Notification.card_at > func.now() - DELETABLE)
    return [id for id in await db.scalars(older.distinct().limit(5)) if id is not None]


async def taken_away(db: AsyncSession, claim: Claim, card_id: int) -> None:
    """That card is gone from Telegram. The caller commits."""
    shown = has_card(claim.user_id, claim.conversation_id) & (Notification.card_id == card_id)
    await db.execute(update(Notification).where(shown).values(card_id=None))


async def refused(db: AsyncSession, claim: Claim, error: TelegramError) -> None:
    """Telegram did not take it: it will be tried again at the right time, or has failed. The caller commits."""
    values: dict[str, object] = {"problem": str(error)}
    if error.retry_after is not None:
        # A pause that Telegram asks for is none of the row's tries.
        values |= {"due_at": func.now() + timedelta(seconds=error.retry_after), "attempts": claim.attempts - 1}
    elif error.permanent or claim.attempts >= TRIES:
        values |= {"state": NotificationState.FAILED}
    else:
        values |= {"due_at": func.now() + timedelta(seconds=BACKOFF[claim.attempts - 1])}
    await db.execute(update(Notification).where(_is_held(claim)).values(values))


async def hush(db: AsyncSession, chat_id: int, seconds: float) -> None:
    """Telegram asks for silence towards this chat. The caller commits."""
    until = func.now() + timedelta(seconds=seconds)
    await db.execute(update(User).where(User.telegram_chat_id == chat_id).values(telegram_not_before=until))


def _claim(at: Occasion, chat_id: int) -> Claim:
    card = at.live_card
    return Claim(
        id=at.row.id,
        user_id=at.user.id,
        conversation_id=at.row.conversation_id,
        chat_id=chat_id,
        author=at.author,
        bodies=[message.body for message in at.newest],
        earlier=at.unread - len(at.newest),
        first_seq=at.first_seq,
        last_seq=at.newest[-1].seq,
        attempts=at.row.attempts,
        lease=at.row.due_at,
        card_id=card.card_id if card else None,
        card_at=card.card_at if card else None,
    )


def _is_held(claim: Claim) -> ColumnElement[bool]:
    """Whether the row is still this claim's: its lease may have ended, and another worker have taken it over."""
    return (
        (Notification.id == claim.id)
        & (Notification.state == NotificationState.SENDING)
        & (Notification.due_at == claim.lease)
    )
