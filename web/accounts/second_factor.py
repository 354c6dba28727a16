"""The second factor: the codes of an app (TOTP), and recovery codes on paper for when the app is lost."""

import base64
import hmac
import secrets
import time

import pyotp
from itsdangerous import BadSignature
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from web.accounts import codes, devices
from web.accounts.sessions import SignedIn
from web.data.models import RecoveryCode, User
from web.settings import Settings

TICKET, OFFER = "second-factor.ticket", "second-factor.offer"
LIFE = 300
"""Seconds in which the code has to follow the password, and the first code the picture of the secret."""
RECOVERY_CODES = 10
STEP = 30
"""Seconds that a code of the app is shown. The one before and the one after are good too, for clocks that differ."""


class WrongCode(Exception):
    """Neither the app shows this code, nor is it a recovery code, or it was used before."""


def new_secret() -> str:
    return pyotp.random_base32()


def address(secret: str, username: str) -> str:
    """What the app reads from the QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name="Knock")


async def turn_on(db: AsyncSession, me: SignedIn, secret: str, code: str) -> list[str]:
    """Returns the recovery codes, which are kept nowhere. The caller commits. Raises WrongCode."""
    step = _step(secret, _plain(code))
    chosen = update(User).where(User.id == me.id, User.totp_secret.is_(None)).returning(User.id)
    if step is None or await db.scalar(chosen.values(totp_secret=secret, totp_step=step)) is None:
        raise WrongCode
    fresh = [_recovery_code() for _ in range(RECOVERY_CODES)]
    db.add_all(RecoveryCode(user_id=me.id, id=codes.row_id(_plain(each))) for each in fresh)
    return fresh


async def turn_off(db: AsyncSession, user_id: int) -> None:
    """The password alone is enough again. The caller commits."""
    await db.execute(update(User).where(User.id == user_id).values(totp_secret=None, totp_step=None))
    await db.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))


async def use(db: AsyncSession, user_id: int, code: str) -> None:
    """Take a code, which is then good no more. The caller commits. Raises WrongCode."""
    plain = _plain(code)
    # The lock lets one code in once, however many come with it at the same moment.
    user = await db.get_one(User, user_id, with_for_update=True, populate_existing=True)
    step = _step(user.totp_secret, plain) if user.totp_secret else None
    if step is not None:
        fresh = or_(User.totp_step.is_(None), User.totp_step < step)
        query = update(User).where(User.id == user_id, fresh).values(totp_step=step).returning(User.id)
        taken = await db.scalar(query)
    else:
        mine = (RecoveryCode.user_id == user_id) & (RecoveryCode.id == codes.row_id(plain))
        taken = await db.scalar(delete(RecoveryCode).where(mine).returning(RecoveryCode.user_id))
    if taken is None:
        raise WrongCode


async def left(db: AsyncSession, user_id: int) -> int:
    """How many recovery codes were not used yet."""
    return await db.scalar(select(func.count()).where(RecoveryCode.user_id == user_id)) or 0


def ticket(settings: Settings, user: User) -> str:
    """Says that this user's password was typed just now."""
    return str(codes.signer(settings, TICKET).dumps([user.id, devices.digest(user.password_hash)]))


async def holder(db: AsyncSession, settings: Settings, signed: str) -> User | None:
    """Whose ticket it is; None if it is forged or too old, or the password was changed since."""
    try:
        user_id, password = codes.signer(settings, TICKET).loads(signed, max_age=LIFE)
    except BadSignature:
        return None
    user = await db.get(User, user_id)
    return user if user and user.totp_secret and devices.digest(user.password_hash) == password else None


def offer(settings: Settings, me: SignedIn, secret: str) -> str:
    """A secret that this session was shown, and that a code of it turns on."""
    return str(codes.signer(settings, OFFER).dumps([me.session_id.hex(), secret]))


def offered(settings: Settings, me: SignedIn, signed: str) -> str | None:
    """The secret of an offer; None if it is another session's, forged or too old."""
    try:
        session_id, secret = codes.signer(settings, OFFER).loads(signed, max_age=LIFE)
    except BadSignature:
        return None
    return str(secret) if session_id == me.session_id.hex() else None


def _step(secret: str, code: str) -> int | None:
    """The 30 seconds whose code this is; None if they are not now."""
    now = int(time.time()) // STEP
    app = pyotp.TOTP(secret)
    near = (now, now - 1, now + 1)
    return next((step for step in near if hmac.compare_digest(app.generate_otp(step).encode(), code.encode())), None)


def _plain(code: str) -> str:
    """As it is compared: people type spaces and hyphens, or leave them out."""
    return code.replace(" ", "").replace("-", "").lower()


def _recovery_code() -> str:
    """80 random bits, as four groups of letters and digits."""
    text = base64.b32encode(secrets.token_bytes(10)).decode().lower()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))
