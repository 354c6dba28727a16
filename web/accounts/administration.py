"""What an administrator does to accounts, on the page and on the command line. The caller commits."""

from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from web.accounts import second_factor, users
from web.accounts.sessions import Endings
from web.data.models import User

Action = Callable[[AsyncSession, Endings, User], Awaitable[None]]


async def listed(db: AsyncSession, q: str, after: str) -> Sequence[User]:
    """A page of users, in the order of their names."""
    names = [it.username for it in await users.listed(db, q, after)]
    found = select(User).where(User.username.in_(names))
    return (await db.scalars(found.order_by(users.folded_name()))).all()


async def ban(db: AsyncSession, endings: Endings, user: User) -> None:
    """They can log in no more, and are logged in nowhere. Their token stays."""
    user.banned_at = func.now()
    await endings.end_all(db, user.id)


async def unban(_db: AsyncSession, _endings: Endings, user: User) -> None:
    user.banned_at = None


async def end_sessions(db: AsyncSession, endings: Endings, user: User) -> None:
    await endings.end_all(db, user.id)


async def promote(_db: AsyncSession, _endings: Endings, user: User) -> None:
    user.is_admin = True


async def demote(_db: AsyncSession, _endings: Endings, user: User) -> None:
    user.is_admin = False


async def turn_off_second_factor(db: AsyncSession, _endings: Endings, user: User) -> None:
    """For somebody who lost the app and the recovery codes."""
    await second_factor.turn_off(db, user.id)


ACTIONS: dict[str, Action] = {"ban": ban, "unban": unban, "end-sessions": end_sessions}
"""By the name that the page and the log use."""
