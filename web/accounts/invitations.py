"""Invitations: links with which somebody registers, once, while SIGN_UP is invite."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from web.accounts import codes
from web.data.models import Invitation, User

LIFE = timedelta(days=7)
OPEN = 20
"""Invitations that a user may have open at once."""
SHOWN = 50
NOTE_LENGTH = 100


class Shown(NamedTuple):
    """An invitation, for who made it."""

    id: bytes
    note: str
    is_open: bool
    used_by: str | None


async def make(db: AsyncSession, user_id: int, note: str) -> str | None:
    """A new code; None if the user has as many open as they may. The caller commits."""
    # One at a time for each user, so that the limit holds.
    await db.execute(select(User.id).where(User.id == user_id).with_for_update())
    mine = select(func.count()).where(Invitation.made_by_id == user_id, _is_open())
    if (await db.scalar(mine) or 0) >= OPEN:
        return None
    code = secrets.token_urlsafe(18)
    db.add(Invitation(id=codes.row_id(code), made_by_id=user_id, note=note[:NOTE_LENGTH], expires_at=func.now() + LIFE))
    return code


async def listed(db: AsyncSession, user_id: int) -> Sequence[Shown]:
    """A user's invitations, the newest first."""
    query = (
        select(Invitation.id, Invitation.note, _is_open(), User.username)
        .outerjoin(User, User.id == Invitation.used_by_id)
        .where(Invitation.made_by_id == user_id)
        .order_by(Invitation.created_at.desc())
        .limit(SHOWN)
    )
    return [Shown(*row) for row in await db.execute(query)]


async def withdraw(db: AsyncSession, user_id: int, invitation_id: bytes) -> None:
    """Delete one that was not used. The caller commits."""
    mine = (Invitation.id == invitation_id) & (Invitation.made_by_id == user_id)
    await db.execute(delete(Invitation).where(mine, Invitation.used_by_id.is_(None)))


async def is_good(db: AsyncSession, code: str) -> bool:
    return await db.scalar(select(Invitation.id).where(Invitation.id == codes.row_id(code), _is_open())) is not None


async def use(db: AsyncSession, code: str, user_id: int) -> bool:
    """Returns whether it was still good. The caller commits, or rolls the registration back."""
    mine = (Invitation.id == codes.row_id(code)) & _is_open()
    used = update(Invitation).where(mine).values(used_by_id=user_id).returning(Invitation.id)
    return await db.scalar(used) is not None


def _is_open() -> ColumnElement[bool]:
    return Invitation.used_by_id.is_(None) & (Invitation.expires_at > func.now())
