"""The page on which the second factor is turned on and off."""

from starlette.responses import Response
from starlette.routing import Route

from web import log
from web.accounts import limiter, second_factor
from web.accounts.forms import FirstCode, PasswordAgain, PasswordAndCode
from web.accounts.limiter import Key
from web.accounts.second_factor import WrongCode
from web.accounts.sessions import SignedIn
from web.data.models import User
from web.site import Request
from web.views import confirmation, pages

Form = PasswordAgain | PasswordAndCode
HERE = "/settings/second-factor"


@pages.signed_in
async def show(request: Request, me: SignedIn) -> Response:
    return await _page(request, me)


@pages.signed_in
async def begin(request: Request, me: SignedIn) -> Response:
    """After the password, show a secret for the app."""
    form = PasswordAgain(await pages.form(request))
    status = 0 if form.validate() else 422
    if status := status or await confirmation.refuses(request, me, form.password):
        return await _page(request, me, form, status)
    offer = second_factor.offer(request.state.settings, me, second_factor.new_secret())
    return await _offer(request, me, FirstCode(data={"offer": offer}))


@pages.signed_in
async def turn_on(request: Request, me: SignedIn) -> Response:
    """After the first code, show the recovery codes."""
    form = FirstCode(await pages.form(request))
    secret = second_factor.offered(request.state.settings, me, form.offer.data or "")
    if secret is None:
        return pages.see_other(HERE)
    if not form.validate():
        return await _offer(request, me, form, 422)
    try:
        async with request.state.db.begin() as db:
            codes = await second_factor.turn_on(db, me, secret, form.code.data)
    except WrongCode:
        form.code.errors = [pages.WRONG_CODE]
        return await _offer(request, me, form, 422)
    log.event("second factor on", user=me.username)
    return await pages.show(request, me, "accounts/recovery_codes.html", codes=codes)


@pages.signed_in
async def turn_off(request: Request, me: SignedIn) -> Response:
    form = PasswordAndCode(await pages.form(request))
    status = 0 if form.validate() else 422
    if status := status or await confirmation.refuses(request, me, form.password):
        return await _page(request, me, form, status)
    key: Key = (limiter.FAILURES, "code-settings", str(me.id))
    if wait := await request.state.limiter.wait(key):
        form.code.errors = [pages.too_many(wait)]
        return await _page(request, me, form, 429)
    try:
        async with request.state.db.begin() as db:
            await second_factor.use(db, me.id, form.code.data)
            await second_factor.turn_off(db, me.id)
    except WrongCode:
        form.code.errors = [pages.WRONG_CODE]
        return await _page(request, me, form, 422)
    log.event("second factor off", user=me.username)
    await request.state.limiter.succeed(key)
    return pages.see_other(HERE)


async def _page(request: Request, me: SignedIn, form: Form | None = None, status: int = 200) -> Response:
    async with request.state.db() as db:
        is_on = (await db.get_one(User, me.id)).totp_secret is not None
        left = await second_factor.left(db, me.id)
    kind = PasswordAndCode if is_on else PasswordAgain
    shown = form if isinstance(form, kind) else kind()
    return await pages.show(request, me, "accounts/second_factor.html", status, is_on=is_on, left=left, form=shown)


async def _offer(request: Request, me: SignedIn, form: FirstCode, status: int = 200) -> Response:
    secret = second_factor.offered(request.state.settings, me, form.offer.data) or ""
    qr = pages.qr(second_factor.address(secret, me.username))
    groups = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
    return await pages.show(request, me, "accounts/offer.html", status, form=form, qr=qr, secret=groups)


routes = [
    Route(HERE, show),
    Route(f"{HERE}/begin", begin, methods=["POST"]),
    Route(f"{HERE}/on", turn_on, methods=["POST"]),
    Route(f"{HERE}/off", turn_off, methods=["POST"]),
]
