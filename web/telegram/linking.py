"""Linking a user to a Telegram account, so that nobody can link somebody else's (promise N4).

A code from the settings page proves that the sender is that user, so sending it to the bot links at once. A username
typed to the bot proves nothing, so it only makes a request, which that user, and nobody else, sees on the site and
confirms or refuses. Anybody can call themselves anything on Telegram, so both sides see a number to compare.
"""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from web import log
from web.accounts import codes, users
from web.data.models import Notification, Session, TelegramCode, TelegramRefusal, TelegramRequest, User

CODE_LIFE = timedelta(minutes=10)
REFUSAL_LIFE = timedelta(days=1)
"""How long an account that was refused cannot ask the same user again."""
CODES = 5
"""Valid codes that a user has at most: the settings page makes one each time it is shown."""
REQUESTS = 500
"""Requests that a user sees at most, the oldest. Each takes a Telegram account, so nobody crowds out a true one."""


class Account(NamedTuple):
    """Somebody's Telegram account, and the chat with it."""

    chat_id: int
    name: str
    """As its owner likes."""
    username: str | None
    """Without the @. Nobody else on Telegram has it, but not everybody has one."""


async def make_code(db: AsyncSession, user_id: int, session_id: bytes) -> str:
    """A new code of 192 random bits, in characters that Telegram allows in start links. The caller commits.

    It ends with the session, the one that it is shown to.
    """
    code = secrets.token_urlsafe(24)
    expires_at = func.now() + CODE_LIFE
    db.add(TelegramCode(id=codes.row_id(code), user_id=user_id, session_id=session_id, expires_at=expires_at))
    await db.flush()
    newest = select(TelegramCode.id).where(TelegramCode.user_id == user_id)
    newest = newest.order_by(TelegramCode.expires_at.desc()).limit(CODES)
    await db.execute(delete(TelegramCode).where(TelegramCode.user_id == user_id, TelegramCode.id.not_in(newest)))
    await db.execute(delete(TelegramCode).where(TelegramCode.expires_at <= func.now()))
    return code


async def drop_codes(db: AsyncSession, user_id: int) -> None:
    """Invalidate all codes of the user. The caller commits."""
    await db.execute(delete(TelegramCode).where(TelegramCode.user_id == user_id))


async def use_code(db: AsyncSession, code: str, account: Account) -> str | None:
    """Link the code's user to the account. Returns the username; None if the code is not valid. The caller commits."""
    live = select(Session.id).where(Session.expires_at > func.now())
    used = delete(TelegramCode).where(
        TelegramCode.id == codes.row_id(code), TelegramCode.expires_at > func.now(), TelegramCode.session_id.in_(live)
    )
    user_id = await db.scalar(used.returning(TelegramCode.user_id))
    if user_id is None:
        return None
    return await _link(db, user_id, account)


async def expect_username(db: AsyncSession, account: Account) -> None:
    """Wait for this account to type a username. The caller commits."""
    await db.execute(delete(TelegramRequest).where(~TelegramRequest.holds()))
    fresh = {
        "telegram_name": account.name,
        "telegram_username": account.username,
        "user_id": None,
        "asked": True,
        "created_at": func.now(),
    }
    statement = insert(TelegramRequest).values(chat_id=account.chat_id, **fresh)
    await db.execute(statement.on_conflict_do_update(index_elements=["chat_id"], set_=fresh))


async def name_user(db: AsyncSession, chat_id: int, username: str) -> int | None:
    """The chat typed a username. Returns the number of its request; None if no username was expected.

    Nobody learns whether anybody has the name, or refused this chat. The caller commits.
    """
    refused = exists().where(
        TelegramRefusal.chat_id == chat_id,
        TelegramRefusal.user_id == User.id,
        TelegramRefusal.created_at > func.now() - REFUSAL_LIFE,
    )
    # The same statement whether somebody has the name or not, so that its duration does not reveal that either.
    named = select(User.id).where(users.is_named(username), ~refused).scalar_subquery()
    statement = (
        update(TelegramRequest)
        .where(TelegramRequest.chat_id == chat_id, TelegramRequest.asked, TelegramRequest.holds())
        .values(user_id=named, asked=False, number=secrets.randbelow(10_000), created_at=func.now())
        .returning(TelegramRequest.number)
    )
    return await db.scalar(statement)


async def requests(db: AsyncSession, user_id: int) -> Sequence[TelegramRequest]:
    """The Telegram accounts that want this user's notifications, the oldest first."""
    query = select(TelegramRequest).where(TelegramRequest.user_id == user_id, TelegramRequest.holds())
    return (await db.scalars(query.order_by(TelegramRequest.created_at).limit(REQUESTS))).all()


async def confirm(db: AsyncSession, user_id: int, chat_id: int) -> bool:
    """Link the user as requested. Returns False if there is no such request to them. The caller commits."""
    mine = (
        delete(TelegramRequest)
        .where(TelegramRequest.chat_id == chat_id, TelegramRequest.user_id == user_id, TelegramRequest.holds())
        .returning(TelegramRequest.chat_id, TelegramRequest.telegram_name, TelegramRequest.telegram_username)
    )
    found = (await db.execute(mine)).one_or_none()
    if found is None:
        return False
    await _link(db, user_id, Account(*found))
    return True


async def refuse(db: AsyncSession, user_id: int, chat_id: int) -> None:
    """Drop a request to the user, and those that this chat makes within a day. The caller commits."""
    await db.execute(delete(TelegramRefusal).where(TelegramRefusal.created_at <= func.now() - REFUSAL_LIFE))
    # Of a chat that wrote to the bot: nobody can fill the table with numbers of their own.
    known = select(TelegramRequest.chat_id, literal(user_id)).where(TelegramRequest.chat_id == chat_id)
    refusal = insert(TelegramRefusal).from_select(["chat_id", "user_id"], known)
    again = refusal.on_conflict_do_update(index_elements=["chat_id", "user_id"], set_={"created_at": func.now()})
    await db.execute(again)
    mine = (TelegramRequest.chat_id == chat_id) & (TelegramRequest.user_id == user_id)
    await db.execute(delete(TelegramRequest).where(mine))


async def unlink(db: AsyncSession, user_id: int) -> None:
    """Unlink the user. The caller commits."""
    await _unlink(db, User.id == user_id)


async def stop(db: AsyncSession, chat_id: int) -> None:
    """Unlink all users of the chat, and drop its request. The caller commits."""
    await _unlink(db, User.telegram_chat_id == chat_id)
    await db.execute(delete(TelegramRequest).where(TelegramRequest.chat_id == chat_id))


async def lose(db: AsyncSession, chat_id: int, problem: str) -> None:
    """Unlink all users of a chat that Telegram closed to us; they see `problem` on the site. The caller commits."""
    await _unlink(db, User.telegram_chat_id == chat_id, problem)


async def _link(db: AsyncSession, user_id: int, account: Account) -> str:
    # Ids of cards are only valid in the chat that they were sent to.
    shown = (Notification.user_id == user_id) & Notification.card_id.is_not(None)
    await db.execute(update(Notification).where(shown).values(card_id=None))
    await drop_codes(db, user_id)
    linked = update(User).where(User.id == user_id)
    linked = linked.values(
        telegram_chat_id=account.chat_id,
        telegram_name=account.name,
        telegram_username=account.username,
        telegram_problem=None,
        telegram_not_before=None,
    )
    username = (await db.scalars(linked.returning(User.username))).one()
    log.event("telegram connected", user=username, chat=account.chat_id)
    return username


async def _unlink(db: AsyncSession, whose: ColumnElement[bool], problem: str | None = None) -> None:
    gone = ("telegram_chat_id", "telegram_name", "telegram_username", "telegram_not_before")
    unlinked = update(User).where(whose, User.telegram_chat_id.is_not(None))
    unlinked = unlinked.values({**dict.fromkeys(gone), "telegram_problem": problem})
    for username in await db.scalars(unlinked.returning(User.username)):
        log.event("telegram disconnected", user=username, problem=problem)
