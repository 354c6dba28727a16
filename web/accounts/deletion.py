"""Deleting an account: the messages stay, under a name that says so; everything else of the user goes."""

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from web.accounts import codes, names
from web.accounts.sessions import Endings
from web.data.models import (
    OPEN_STATES,
    Block,
    FormerName,
    Invitation,
    Notification,
    NotificationState,
    Participant,
    RecoveryCode,
    TelegramCode,
    TelegramRefusal,
    TelegramRequest,
    User,
)

NO_PASSWORD = "!"  # noqa: S105
"""No hash, so that no password is right."""


def name(user_id: int) -> str:
    """What a deleted user is called; nobody can register such a name."""
    return f"deleted-user-{user_id}"


def is_deleted(user_id: int, username: str) -> bool:
    """Whether the user of this name was deleted."""
    return username == name(user_id)


async def delete_account(db: AsyncSession, endings: Endings, user_id: int) -> None:
    """Delete it. Commit, then notify with PEOPLE_CHANGED and forget the cached lists, which hold the name."""
    username = await db.scalar(select(User.username).where(User.id == user_id).with_for_update())
    assert username is not None
    await endings.end_all(db, user_id)
    former = insert(FormerName).values(id=codes.row_id(names.lookalike(username)))
    await db.execute(former.on_conflict_do_nothing())
    kept = {"draft": "", "pinned_at": None, "muted_until": None, "starred": None}
    await db.execute(update(Participant).where(Participant.user_id == user_id).values(**kept))
    for table, column in (
        (TelegramCode, TelegramCode.user_id),
        (TelegramRequest, TelegramRequest.user_id),
        (TelegramRefusal, TelegramRefusal.user_id),
        (RecoveryCode, RecoveryCode.user_id),
        (Block, Block.user_id),
    ):
        await db.execute(delete(table).where(column == user_id))
    await db.execute(delete(Invitation).where(Invitation.made_by_id == user_id, Invitation.used_by_id.is_(None)))
    await db.execute(
        update(Notification)
        .where(Notification.user_id == user_id, Notification.state.in_(OPEN_STATES))
        .values(state=NotificationState.CANCELLED, problem="the account was deleted")
    )
    gone = {
        "telegram_chat_id": None,
        "telegram_name": None,
        "telegram_username": None,
        "telegram_problem": None,
        "display_name": None,
        "hue": None,
        "totp_secret": None,
    }
    values = {"username": name(user_id), "password_hash": NO_PASSWORD, "deleted_at": func.now(), "is_admin": False}
    await db.execute(update(User).where(User.id == user_id).values(**gone, **values))
