"""Users: their names and passwords."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from passlib.hash import argon2
from sqlalchemy import ColumnElement, cast, func, select
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from web.data.models import User

USERNAME = re.compile(r"[A-Za-z0-9_.-]{3,32}")
FRAGMENT = re.compile(r"[A-Za-z0-9_.-]{1,32}")
"""A part of a username. It needs no quoting in a tsquery."""
PAGE = 50
NEAR = 500
"""The next names in the order, in which a page is looked for before using the index."""
PASSWORD_LENGTH = (8, 256)

# OWASP's Argon2id parameters of 19 MiB: 33 ms a hash here. Two threads at a time, since each takes a core.
_hasher = argon2.using(type="ID", memory_cost=19456, time_cost=2, parallelism=1)
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")


class UsernameTaken(Exception):
    """Another user has this name."""


async def register(db: AsyncSession, username: str, password: str) -> User:
    """Create a user, with token 0. Commits. Raises UsernameTaken."""
    user = User(username=username, password_hash=await hash_password(password))
    db.add(user)
    try:
        await db.commit()
    except IntegrityError:
        await db.rollback()
        raise UsernameTaken from None
    return user


async def find(db: AsyncSession, username: str) -> User | None:
    """The user of that name, ignoring case."""
    if not USERNAME.fullmatch(username):
        return None
    return await db.scalar(select(User).where(is_named(username)))


async def authenticate(db: AsyncSession, username: str, password: str) -> User | None:
    """The user with this name and password. An unknown name takes as long as a wrong password."""
    user = await find(db, username)
    if not await verify_password(password, user.password_hash if user else await _nobodys_hash()):
        return None
    if user and _hasher.needs_update(user.password_hash):
        user.password_hash = await hash_password(password)
    return user


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
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)


async def verify_password(password: str, password_hash: str) -> bool:
    if len(password) > PASSWORD_LENGTH[1] or not _hasher.identify(password_hash):
        return False
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.verify, password, password_hash)


def is_common(password: str) -> bool:
    """Whether it is among the 30,000 passwords that are tried first (zxcvbn's list, from real leaks)."""
    return password.lower() in _common_passwords()


@cache
def _common_passwords() -> frozenset[str]:
    return frozenset(FREQUENCY_LISTS["passwords"])


async def _nobodys_hash() -> str:
    global _decoy
    _decoy = _decoy or await hash_password("nobody's password")
    return _decoy


_decoy = ""


async def listed(db: AsyncSession, q: str, after: str) -> list[str]:
    """A page of usernames in alphabetical order that contain `q`, from the first one after `after`.

    Nearly every name would contain a `q` of one or two characters, so only names that begin with it are found.
    """
    name, part = folded_name(), fold(q)
    query = select(User.username).order_by(name)
    if after:
        query = query.where(name > fold(after))
    if q and not FRAGMENT.fullmatch(q):
        return []
    if 0 < len(q) < 3:
        query = query.where(name >= part, name < part + "\x7f")
    elif q:
        # The index finds all names that contain the part, unsorted. If there are so many that sorting takes long, then
        # the next names in the order contain a page of them, so look there first.
        near = query.limit(NEAR).subquery()
        with_part = func.strpos(folded_name(near.c.username), part) > 0
        nearest = select(near.c.username).where(with_part).order_by(folded_name(near.c.username))
        found = list(await db.scalars(nearest.limit(PAGE)))
        if len(found) == PAGE:
            return found
        query = query.where(User.search.op("@@")(cast(f"'{part}':*", TSQUERY)))
    return list(await db.scalars(query.limit(PAGE)))
