"""Sessions: a signed cookie and the row behind it, so that Log out ends them on the server for good."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from itsdangerous import BadSignature
from sqlalchemy import ColumnElement, LargeBinary, Select, bindparam, delete, event, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection
from starlette.responses import Response

from web import words
from web.accounts import codes
from web.accounts.users import Verified
from web.data.models import PushDevice, Session, TelegramRequest, User
from web.data.questions import Question, Reader
from web.settings import Settings

SESSIONS = 20
"""That a user has at most."""
SEEN_EVERY = timedelta(minutes=5)
"""How old the moment in `seen_at` becomes before it is written again."""
COOKIE_LENGTH = 200
"""More than any cookie of ours: a longer one would only fill the cache of verified ones."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The signed-in user of a request or socket, and their session."""

    id: int
    username: str
    session_id: bytes
    expires_at: datetime
    seen_at: datetime
    shown: str
    """The name that the others see."""
    hue: int | None
    language: str | None
    """The one chosen in the settings; None for the browser's."""
    has_requests: bool
    """Whether Telegram accounts wait for this user's consent."""


class PasswordChanged(Exception):
    """The password that was verified is no longer the user's."""


class Banned(Exception):
    """Whoever runs the site closed this account."""


class Browser(NamedTuple):
    """Where a login comes from."""

    address: str
    user_agent: str
    session_id: bytes | None
    """The session that it had until now, of whatever user."""


async def start(db: AsyncSession, settings: Settings, endings: "Endings", login: Verified, browser: Browser) -> str:
    """Sign somebody in, which sets their token to 1. Returns the cookie's value. The caller commits.

    Ends the session that this one replaces, and the user's oldest if they have too many. Raises PasswordChanged and
    Banned.
    """
    user_id = login.user.id
    # The lock lets a change of the password either come first, and be seen, or come later, and end this session.
    query = select(User.password_hash, User.banned_at).where(User.id == user_id, User.deleted_at.is_(None))
    found = (await db.execute(query.with_for_update())).one_or_none()
    if found is None or found.password_hash != login.user.password_hash:
        raise PasswordChanged
    if found.banned_at is not None:
        raise Banned
    secret = secrets.token_urlsafe(32)
    now = datetime.now(UTC)
    await db.execute(delete(Session).where(Session.expires_at < now))
    await endings.make_room(db, user_id, browser.session_id)
    db.add(
        Session(
            id=codes.row_id(secret),
            user_id=user_id,
            user_agent=browser.user_agent[:200],
            address=browser.address,
            expires_at=now + timedelta(seconds=settings.session_max_age),
        )
    )
    values: dict[str, object] = {"token": 1, "browser_language": words.language()}
    if login.new_hash:
        values["password_hash"] = login.new_hash
    await db.execute(update(User).where(User.id == user_id).values(values))
    return codes.signer(settings, "session").dumps(secret)


def valid() -> Select[int, str, bytes, datetime, datetime, str, int | None, str | None, bool]:
    """The columns of SignedIn for the parameter `session_id`; no row if that session has ended."""
    has_requests = exists().where(TelegramRequest.user_id == User.id, TelegramRequest.holds()).label("has_requests")
    mine = (
        User.id,
        User.username,
        Session.id.label("session_id"),
        Session.expires_at,
        Session.seen_at,
        User.shown,
        User.hue,
        User.language,
    )
    return (
        select(*mine, has_requests)
        .join(User, User.id == Session.user_id)
        .where(Session.id == bindparam("session_id", type_=LargeBinary), Session.expires_at > func.now())
    )


CURRENT = Question(SignedIn, valid())


class Seen(NamedTuple):
    seen_at: datetime


SEEN = Question(
    Seen,
    update(Session)
    .where(Session.id == bindparam("session_id", type_=LargeBinary))
    .values(seen_at=func.now())
    .returning(Session.seen_at),
)


async def current(reader: Reader, session_id: bytes | None) -> SignedIn | None:
    """The user of a session; None if it has ended."""
    found = await reader.fetch(CURRENT, session_id=session_id) if session_id else []
    return found[0] if found else None


async def see(reader: Reader, me: SignedIn) -> None:
    """Write down that the session is in use, if that was not done for some minutes."""
    if datetime.now(UTC) - me.seen_at > SEEN_EVERY:
        await reader.fetch(SEEN, session_id=me.session_id)


def id_of(settings: Settings, connection: HTTPConnection[Any]) -> bytes | None:
    """The id of the session that the cookie names; None if the cookie is missing, forged or expired."""
    cookie = connection.cookies.get(cookie_name(connection), "")
    signed = _signed(settings, cookie) if len(cookie) <= COOKIE_LENGTH else None
    if signed is None:
        return None
    age = (datetime.now(UTC) - signed.at).total_seconds()
    return signed.session_id if 0 <= age <= settings.session_max_age else None


class Endings:
    """One per process: the only way to end sessions, so that their sockets always end with them."""

    def __init__(self, close_sockets: Callable[[Sequence[bytes]], None]) -> None:
        """`close_sockets` closes the sockets of these sessions, in every process."""
        self._close_sockets = close_sockets

    async def log_out(self, db: AsyncSession, me: SignedIn) -> None:
        """A click on Log out, the only thing that sets the token back to 0. The caller commits."""
        await self._end(db, Session.id == me.session_id)
        await db.execute(update(User).where(User.id == me.id).values(token=0))

    async def end_others(self, db: AsyncSession, me: SignedIn) -> None:
        """End every session of the user except this one; the token stays. The caller commits."""
        await self._end(db, Session.user_id == me.id, Session.id != me.session_id)
        await _forget_devices(db, me.id)

    async def end_one(self, db: AsyncSession, me: SignedIn, session_id: bytes) -> bool:
        """End another session of the user; the token stays. Returns whether it was theirs. The caller commits."""
        await _forget_devices(db, me.id)
        return await self._end(db, Session.user_id == me.id, Session.id == session_id)

    async def end_all(self, db: AsyncSession, user_id: int) -> None:
        """End every session of a user; the token stays. The caller commits."""
        await self._end(db, Session.user_id == user_id)
        await _forget_devices(db, user_id)

    async def make_room(self, db: AsyncSession, user_id: int, replaced: bytes | None) -> None:
        """End the session that a new one replaces, and the user's oldest beyond SESSIONS. The caller commits."""
        newest = select(Session.id).where(Session.user_id == user_id).order_by(Session.created_at.desc())
        too_many = Session.id.in_(newest.offset(SESSIONS - 1))
        await self._end(db, too_many | (Session.id == replaced) if replaced else too_many)

    async def _end(self, db: AsyncSession, *conditions: ColumnElement[bool]) -> bool:
        """Returns whether there was such a session."""
        ended = list(await db.scalars(delete(Session).where(*conditions).returning(Session.id)))
        # Not before the commit: a page that came back meanwhile would find its session still there.
        event.listen(db.sync_session, "after_rollback", lambda _: ended.clear(), once=True)
        event.listen(db.sync_session, "after_commit", lambda _: self._close_sockets(ended), once=True)
        return len(ended) > 0


async def _forget_devices(db: AsyncSession, user_id: int) -> None:
    """Tell no device of the user of anything: one of them may be lost. The one at hand comes back by itself."""
    await db.execute(delete(PushDevice).where(PushDevice.user_id == user_id))


async def listed(db: AsyncSession, me: SignedIn) -> list[Session]:
    """The sessions of the user, newest first."""
    query = select(Session).where(Session.user_id == me.id, Session.expires_at > func.now())
    return list(await db.scalars(query.order_by(Session.created_at.desc())))


async def ended(db: AsyncSession, ids: list[bytes]) -> set[bytes]:
    """Which of these sessions have ended."""
    query = select(Session.id).where(Session.id.in_(ids), Session.expires_at > func.now())
    return set(ids) - set(await db.scalars(query))


def cookie_name(connection: HTTPConnection[Any], name: str = "session") -> str:
    """On https, the prefix binds the cookie to this host (RFC 6265bis, section 4.1.3.2)."""
    return f"__Host-{name}" if _is_secure(connection) else name


def set_cookie(
    response: Response, connection: HTTPConnection[Any], value: str, max_age: int, name: str | None = None
) -> None:
    response.set_cookie(
        name or cookie_name(connection),
        value,
        max_age=max_age,
        path="/",
        secure=_is_secure(connection),
        httponly=True,
        samesite="lax",
    )


def delete_cookie(response: Response, connection: HTTPConnection[Any]) -> None:
    response.delete_cookie(
        cookie_name(connection), path="/", secure=_is_secure(connection), httponly=True, samesite="lax"
    )


def _is_secure(connection: HTTPConnection[Any]) -> bool:
    return connection.scope["scheme"] in ("https", "wss")


class _Signed(NamedTuple):
    """What a cookie says, and when it was signed."""

    session_id: bytes
    at: datetime


# Verifying a signature takes a twelfth of a page's time, and every page comes with the cookie of the page before.
@lru_cache(4096)
def _signed(settings: Settings, cookie: str) -> _Signed | None:
    """None if we did not sign it."""
    try:
        secret, at = codes.signer(settings, "session").loads(cookie, return_timestamp=True)
    except BadSignature:
        return None
    return _Signed(codes.row_id(secret), at)
