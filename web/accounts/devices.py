"""Known devices: a browser that has logged in to an account before is not shut out of it by strangers who guess."""

import hashlib
import secrets
from typing import Any

from itsdangerous import BadSignature
from starlette.requests import HTTPConnection
from starlette.responses import Response

from web.accounts import codes, sessions
from web.data.models import User
from web.settings import Settings

MAX_AGE = 400 * 24 * 3600
"""Seconds; browsers keep no cookie longer (RFC 6265bis)."""
MAX_LENGTH = 200


def known(settings: Settings, connection: HTTPConnection[Any], user: User | None) -> str | None:
    """The id of the device, if its cookie says that it has logged in as this user, with the password of now."""
    cookie = connection.cookies.get(_name(connection), "")
    if user is None or not cookie or len(cookie) > MAX_LENGTH:
        return None
    try:
        user_id, password, device = codes.signer(settings, "device").loads(cookie)
    except (BadSignature, TypeError, ValueError):
        return None
    return str(device) if (user_id, password) == (user.id, digest(user.password_hash)) else None


def remember(
    response: Response, settings: Settings, connection: HTTPConnection[Any], user_id: int, password_hash: str
) -> None:
    """Make the device known. It knows the last account only that logged in there."""
    value = codes.signer(settings, "device").dumps([user_id, digest(password_hash), secrets.token_urlsafe(9)])
    sessions.set_cookie(response, connection, str(value), MAX_AGE, _name(connection))


def _name(connection: HTTPConnection[Any]) -> str:
    return sessions.cookie_name(connection, "device")


def digest(password_hash: str) -> str:
    """Says whether the password is still the same, and nothing else."""
    return hashlib.sha256(password_hash.encode()).hexdigest()[:16]
