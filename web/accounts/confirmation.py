"""Typing the password again, before what somebody who finds an open browser must not do."""

from datetime import timedelta

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from web.accounts.sessions import SignedIn
from web.data.models import Session

LIFE = timedelta(minutes=10)
"""How long a session does not ask again; a login counts too."""


async def is_fresh(db: AsyncSession, me: SignedIn) -> bool:
    """Whether the password was typed in this session during the last ten minutes."""
    query = select(Session.confirmed_at > func.now() - LIFE).where(Session.id == me.session_id)
    return bool(await db.scalar(query))


async def renew(db: AsyncSession, me: SignedIn) -> None:
    """The password was typed now. The caller commits."""
    await db.execute(update(Session).where(Session.id == me.session_id).values(confirmed_at=func.now()))
