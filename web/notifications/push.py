"""Web Push: notices on people's own devices, through the push services of their browsers' makers.

A notice is encrypted for one browser (RFC 8291) and signed with Knock's key (RFC 8292), which is made of SECRET_KEY. It
is in the form that Safari shows by itself; static/worker.js shows it in the others.
"""

import asyncio
import binascii
import logging
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from web.data.models import Participant, PushDevice
from web.data.postgres import Database
from web.settings import Settings

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from web.notifications.outbox import Claim

log = logging.getLogger(__name__)

DEVICES = 10
"""Of one user at most; a further one takes the place of the oldest."""
ENDPOINT = 2000
"""Characters of an address at most."""
SHOWN = 5
"""Messages that a notice shows at most."""
LINE = 150
"""Characters of a message that it shows: push services take 4,096 bytes, encrypted."""
KEPT = 24 * 3600
"""Seconds for which a push service keeps a notice for a device that is off."""
SECONDS = 5.0
GONE = (401, 403, 404, 410)
"""What a push service answers when it will never take a notice for this device: it is forgotten."""


class PushError(Exception):
    """No device could be told; another try may succeed. The text says why, for the operator."""

    permanent = False
    retry_after = None


@cache
def _private_key(secret_key: str) -> ec.EllipticCurvePrivateKey:
    derived = HKDF(SHA256(), 48, salt=None, info=b"knock web push").derive(secret_key.encode())
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
    return ec.derive_private_key(int.from_bytes(derived) % (order - 1) + 1, ec.SECP256R1())


def public_key(settings: Settings) -> str:
    """The key by which a browser knows that a notice is ours, in base64url."""
    point = (
        _private_key(settings.secret_keys[0]).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    )
    return _encoded(point)


def _encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    """Raises ValueError."""
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError from None


def _origin(endpoint: str) -> str:
    """Of an address that everybody reads in the same way; empty if it is none."""
    found = re.fullmatch(r"(https?://[a-z0-9.-]+(:\d+)?)/[!-~]*", endpoint)
    return found[1] if found else ""


def _is_allowed(settings: Settings, endpoint: str) -> bool:
    """Whether it is at a push service: Knock calls nothing else that a browser names."""
    return any(fnmatchcase(_origin(endpoint), service) for service in settings.push_services)


def is_valid(settings: Settings, endpoint: str, p256dh: str, auth: str) -> bool:
    """Whether this is what a browser says of its subscription, at a push service that Knock calls."""
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _decoded(p256dh))
        return len(endpoint) <= ENDPOINT and _is_allowed(settings, endpoint) and len(_decoded(auth)) == 16
    except ValueError:
        return False


async def add(db: AsyncSession, user_id: int, endpoint: str, p256dh: str, auth: str) -> None:
    """The device gets the notices of this user, and of nobody else. The caller commits."""
    keys = {"user_id": user_id, "p256dh": p256dh, "auth": auth}
    added = insert(PushDevice).values(endpoint=endpoint, **keys)
    await db.execute(added.on_conflict_do_update(index_elements=["endpoint"], set_=keys))
    newest = select(PushDevice.id).where(PushDevice.user_id == user_id).order_by(PushDevice.id.desc())
    await db.execute(delete(PushDevice).where(PushDevice.id.in_(newest.offset(DEVICES))))


async def remove(db: AsyncSession, user_id: int, endpoint: str) -> None:
    """Forget a device of the user. The caller commits."""
    await db.execute(delete(PushDevice).where(PushDevice.user_id == user_id, PushDevice.endpoint == endpoint))


async def devices(db: AsyncSession, user_id: int) -> Sequence[PushDevice]:
    """The user's devices, oldest first."""
    return (await db.scalars(select(PushDevice).where(PushDevice.user_id == user_id).order_by(PushDevice.id))).all()


async def tell(db: Database, settings: Settings, claim: "Claim", to: Sequence[PushDevice]) -> None:
    """Tell these devices of the claim's messages, and mark it. Those that their push services refuse are forgotten.

    Raises PushError if none could be told, and DATABASE_AWAY's errors.
    """
    from aiohttp import ClientSession, ClientTimeout

    seq = claim.messages[-1].seq
    if seq <= claim.pushed_seq:
        return
    text = _notice(settings.site_url, claim)
    async with ClientSession(timeout=ClientTimeout(SECONDS)) as session:
        answers = await asyncio.gather(*(_send(session, settings, device, text, claim) for device in to))
    gone = [device.id for device, status in zip(to, answers, strict=True) if status in GONE]
    told = any(status < 300 for status in answers)
    async with db.begin() as connection:
        if gone:
            await connection.execute(delete(PushDevice).where(PushDevice.id.in_(gone)))
        if told:
            mine = (Participant.user_id == claim.user_id) & (Participant.conversation_id == claim.conversation_id)
            await connection.execute(update(Participant).where(mine).values(pushed_seq=seq, pushed_at=func.now()))
    if not told:
        raise PushError(f"the push services answered {', '.join(map(str, answers))}")


def _notice(site_url: str, claim: "Claim") -> bytes:
    """As in https://www.w3.org/TR/push-api/#declarative-push-message."""
    lines = [f"{it.body[: LINE - 1]}…" if len(it.body) > LINE else it.body for it in claim.messages[-SHOWN:]]
    notice = {
        "title": claim.title,
        "body": "\n".join(lines),
        "navigate": f"{site_url}/chat/{quote(claim.chat)}",
        "tag": f"chat-{claim.conversation_id}",
    }
    return orjson.dumps({"web_push": 8030, "notification": notice})


async def _send(session: "ClientSession", settings: Settings, device: PushDevice, text: bytes, claim: "Claim") -> int:
    """The status that the push service answers with; 599 if it does not."""
    from aiohttp import ClientError
    from py_vapid import Vapid02  # type: ignore[import-untyped]
    from pywebpush import WebPusher  # type: ignore[import-untyped]

    if not _is_allowed(settings, device.endpoint):
        return 403
    keys = {"p256dh": device.p256dh, "auth": device.auth}
    host = urlsplit(settings.site_url).hostname
    about = {"aud": _origin(device.endpoint), "sub": f"mailto:knock@{host}"}
    headers = Vapid02(private_key=_private_key(settings.secret_keys[0])).sign(about)
    headers |= {
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/notification+json",
        "TTL": str(KEPT),
        "Urgency": "high",
        "Topic": f"chat-{claim.conversation_id}",  # a later notice takes the place of one that is not delivered yet
    }
    try:
        body = WebPusher({"endpoint": device.endpoint, "keys": keys}).encode(text)["body"]
        async with session.post(device.endpoint, data=body, headers=headers, allow_redirects=False) as answer:
            if answer.status >= 300:
                log.warning("A push service answered %d: %s", answer.status, (await answer.text())[:200])
            return answer.status
    except (ClientError, TimeoutError, OSError) as error:
        log.warning("A push service does not answer: %r", error)
        return 599
