"""The form that asks for the password again, and its page."""

from typing import Any

from sqlalchemy import select
from starlette.responses import Response

from web.accounts import confirmation, limiter, users
from web.accounts.forms import PasswordAgain
from web.accounts.limiter import Key
from web.accounts.sessions import SignedIn
from web.data.models import User
from web.site import Request
from web.views import pages
from web.words import Sentence


@pages.signed_in
async def confirm(request: Request, me: SignedIn) -> Response:
    if request.method == "GET":
        return await _page(request, me, PasswordAgain())
    form = PasswordAgain(await pages.form(request))
    if not form.validate():
        return await _page(request, me, form, 422)
    if status := await refuses(request, me, form.password):
        return await _page(request, me, form, status)
    async with request.state.db.begin() as db:
        await confirmation.renew(db, me)
    return pages.see_other("/settings#telegram")


async def refuses(request: Request, me: SignedIn, field: Any) -> int:
    """The status of the answer if the field does not hold the user's password, with the error in it; 0 if it does."""
    key: Key = (limiter.FAILURES, "password", str(me.id))
    if wait := await request.state.limiter.wait(key):
        field.errors = [pages.too_many(wait)]
        return 429
    async with request.state.db() as db:
        password_hash = await db.scalar(select(User.password_hash).where(User.id == me.id))
    if not await users.verify_password(field.data, password_hash or ""):
        field.errors = [Sentence("That is not your password.")]
        return 422
    await request.state.limiter.succeed(key)
    return 0


async def _page(request: Request, me: SignedIn, form: PasswordAgain, status: int = 200) -> Response:
    return await pages.show(request, me, "accounts/confirm.html", status, form=form)
