"""Users: their names and passwords."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from passlib.hash import argon2
from sqlalchemy import ColumnElement, cast, func, select
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.ext.asyncio import AsyncSession
from zxcvbn import zxcvbn

from web.accounts import codes, names
from web.accounts.names import USERNAME
from web.data.models import FormerName, User

T = TypeVar("T")

PAGE = 50
NEAR = 500
"""The next names in the order, in which a page is looked for before using the index."""
PASSWORD_LENGTH = (8, 256)
JUDGED = 72
"""Characters of a password that zxcvbn looks at."""

# OWASP's Argon2id parameters of 19 MiB: 33 ms a hash here. Two threads at a time, since each takes a core.
_hasher = argon2.using(type="ID", memory_cost=19456, time_cost=2, parallelism=1)
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")


QUEUE = 32
"""Passwords that may wait to be hashed: each takes 33 ms, so nobody waits longer than a second."""
LEAST_SCORE = 2
"""Of zxcvbn, from 0 to 4. From 2 on, a password takes more than a million guesses."""


class UsernameTaken(Exception):
    """Another user has this name."""


class UsernameLooksTaken(Exception):
    """Another user's name looks like this one, or did until that user left."""


class Busy(Exception):
    """So many passwords wait to be hashed that this one has to come again."""


@dataclass(frozen=True)
class Verified:
    """Somebody who knew the password."""

    user: User
    new_hash: str | None
    """The password hashed anew, if the hash in the table has parameters of an older release."""

    @property
    def password_hash(self) -> str:
        """What the table holds once the login is done."""
        return self.new_hash or self.user.password_hash


async def register(db: AsyncSession, username: str, password_hash: str) -> User:
    """Create a user, with token 0; the first one is administrator. The caller commits.

    Raises UsernameTaken, UsernameLooksTaken.
    """
    looks = names.lookalike(username)
    # Two people who want names that look alike come one after the other.
    await db.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"knock.name:{looks}", 0))))
    like = select(User.username).where(User.lookalike == looks)
    for taken in await db.scalars(like):
        raise UsernameTaken if fold(taken) == fold(username) else UsernameLooksTaken
    if await db.get(FormerName, codes.row_id(looks)):
        raise UsernameLooksTaken
    is_first = await db.scalar(select(User.id).limit(1)) is None
    user = User(username=username, password_hash=password_hash, is_admin=is_first)
    db.add(user)
    await db.flush()
    return user


async def is_anothers(db: AsyncSession, user_id: int, display_name: str) -> bool:
    """Whether the name looks like the username of somebody else."""
    looks = names.lookalike(display_name.replace(" ", "-"))
    alike = select(User.id).where(User.lookalike == looks, User.id != user_id)
    return await db.scalar(alike.limit(1)) is not None


async def find(db: AsyncSession, username: str) -> User | None:
    """The user of that name, ignoring case."""
    if not USERNAME.fullmatch(username):
        return None
    return await db.scalar(select(User).where(is_named(username)))


async def verify(user: User | None, password: str) -> Verified | None:
    """Whether this is the user's password. No user takes as long as a wrong password. Raises Busy."""
    if not await verify_password(password, user.password_hash if user else await _nobodys_hash()) or user is None:
        return None
    return Verified(user, await hash_password(password) if _hasher.needs_update(user.password_hash) else None)


def fold(username: str) -> str:
    """The form in which names are compared and ordered; `folded_name` is the same in SQL."""
    return username.lower()


def is_named(username: str) -> ColumnElement[bool]:
    """The condition that a user has that name, ignoring case."""
    return folded_name() == fold(username)


def folded_name(name: ColumnElement[str] = User.username.expression) -> ColumnElement[str]:
    """`fold` in SQL, by which users are found and ordered; written as in the unique index."""
    return func.lower(name).collate("C")


async def hash_password(password: str) -> str:
    """Raises Busy."""
    return await _in_thread(_hasher.hash, password)


async def verify_password(password: str, password_hash: str) -> bool:
    """Raises Busy."""
    if len(password) > PASSWORD_LENGTH[1] or not _hasher.identify(password_hash):
        return False
    return await _in_thread(_hasher.verify, password, password_hash)


async def is_weak(password: str, username: str) -> bool:
    """Whether it is guessed soon by somebody who knows the username. Raises Busy."""
    # Longer ones would take zxcvbn long, and are not judged by what follows.
    judged = await _in_thread(zxcvbn, password[:JUDGED], [username, "knock"])
    return bool(judged["score"] < LEAST_SCORE)


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    global _waiting
    if _waiting >= QUEUE:
        raise Busy
    _waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, work, *arguments)
    finally:
        _waiting -= 1


_waiting = 0


async def _nobodys_hash() -> str:
    global _decoy
    _decoy = _decoy or await hash_password("nobody's password")
    return _decoy


_decoy = ""


class Listed(NamedTuple):
    username: str
    shown: str
    """What they want to be called."""
    hue: int | None


async def listed(db: AsyncSession, q: str, after: str) -> list[Listed]:
    """A page of users in alphabetical order whose names contain `q`, from the first one after `after` (a username).

    Nearly every name would contain a `q` of one or two letters, so only usernames that begin with it are found.
    """
    name, part = folded_name(), fold(q)
    query = select(User.username, User.shown, User.hue).where(User.deleted_at.is_(None)).order_by(name)
    if after:
        query = query.where(name > fold(after))
    if 0 < len(q) < 3 and q.isascii():
        query = query.where(name >= part, name < part + "\x7f")
    elif q:
        # The index finds all names that contain the part, unsorted. If there are so many that sorting takes long, then
        # the next names in the order contain a page of them, so look there first.
        near = query.add_columns(func.lower(User.username + " " + User.shown).label("names")).limit(NEAR).subquery()
        nearest = select(near.c.username, near.c.shown, near.c.hue).where(func.strpos(near.c.names, part) > 0)
        found = (await db.execute(nearest.order_by(folded_name(near.c.username)).limit(PAGE))).all()
        if len(found) == PAGE:
            return [Listed(*row) for row in found]
        quoted = part.replace("\\", "\\\\").replace("'", "''")
        prefix = cast(f"'{quoted}':*", TSQUERY)
        query = query.where(User.search.bool_op("@@")(prefix) | User.display_search.bool_op("@@")(prefix))
    return [Listed(*row) for row in await db.execute(query.limit(PAGE))]
