"""Register, log in, log out."""

from starlette.responses import HTMLResponse, Response

from web import log
from web.accounts import devices, invitations, limiter, second_factor, sessions, users
from web.accounts.forms import WEAK, Code, Login, Registration
from web.accounts.limiter import Key
from web.accounts.second_factor import WrongCode
from web.accounts.sessions import Banned, Browser, PasswordChanged
from web.accounts.users import UsernameLooksTaken, UsernameTaken, Verified
from web.data.models import User
from web.proxies import neighbourhood_of
from web.site import Request
from web.views import pages
from web.words import Sentence

WRONG = Sentence("That username and password do not belong together.")
TOO_LATE = Sentence("The code has to follow within five minutes. Log in again.")
CLOSED = Sentence("This account was closed by whoever runs this site.")
TAKEN = Sentence("Somebody has this name already. Choose another one.")
LOOKS_TAKEN = Sentence("This name looks like somebody else's. Choose another one.")


async def register(request: Request) -> Response:
    code = request.query_params.get("invitation", "")
    form = Registration(await pages.form(request) if request.method == "POST" else None, data={"invitation": code})
    if said := await _closed(request, form.invitation.data or ""):
        return pages.render("accounts/closed.html", 403 if request.method == "POST" else 200, said=said)
    if request.method == "GET":
        return await _is_in(request) or pages.render("accounts/register.html", form=form)
    if not form.validate():
        return pages.render("accounts/register.html", 422, form=form)
    address = neighbourhood_of(_address(request))
    if wait := await request.state.limiter.wait(*((each, "sign-ups", address) for each in limiter.SIGN_UPS)):
        return _too_many("accounts/register.html", form, wait)
    try:
        return await _register(request, form)
    except UsernameTaken:
        form.username.errors = [TAKEN]
    except UsernameLooksTaken:
        form.username.errors = [LOOKS_TAKEN]
    except users.Busy:
        return _busy("accounts/register.html", form)
    return pages.render("accounts/register.html", 422, form=form)


async def _register(request: Request, form: Registration) -> Response:
    username, password = form.username.data, form.password.data
    if await users.is_weak(password, username):
        form.password.errors = [WEAK]
        return pages.render("accounts/register.html", 422, form=form)
    password_hash = await users.hash_password(password)
    async with request.state.db() as db:
        user = await users.register(db, username, password_hash)
        if request.state.settings.sign_up == "invite" and not await invitations.use(db, form.invitation.data, user.id):
            return pages.render("accounts/closed.html", 403, said=BAD_INVITATION)
        await db.commit()
    log.event("registered", user=user.username, address=_address(request))
    return pages.see_other(f"/login?registered={user.username}")


BY_INVITATION = Sentence("You need an invitation to register here. Ask somebody who is here already for one.")
BAD_INVITATION = Sentence("This invitation was used, was withdrawn, or is older than a week. Ask for a new one.")


async def _closed(request: Request, code: str) -> Sentence | None:
    """Why nobody can register now, or not with this invitation."""
    match request.state.settings.sign_up:
        case "open":
            return None
        case "closed":
            return Sentence("Nobody can register here at the moment.")
    if not code:
        return BY_INVITATION
    async with request.state.db() as db:
        return None if await invitations.is_good(db, code) else BAD_INVITATION


async def login(request: Request) -> Response:
    if request.method == "GET":
        registered = request.query_params.get("registered", "")
        form = Login(data={"username": registered, "next": request.query_params.get("next", "")})
        page = pages.render("accounts/login.html", form=form, registered=bool(registered))
        return await _is_in(request) or page
    form = Login(await pages.form(request))
    if not form.validate():
        return pages.render("accounts/login.html", 422, form=form, registered=False)
    async with request.state.db() as db:
        user = await users.find(db, form.username.data)
    keys = _keys(request, user, form.username.data)
    # What was typed as a name may be a password, so only names of users are logged.
    who = {"user": user.username if user else None, "address": _address(request)}
    if wait := await request.state.limiter.wait(*keys):
        log.event("login limited", **who)
        return _too_many("accounts/login.html", form, wait)
    try:
        verified = await users.verify(user, form.password.data)
    except users.Busy:
        log.event("login put off", **who)
        return _busy("accounts/login.html", form)
    if verified is None:
        log.event("login failed", **who)
        return _wrong(form, WRONG)
    await request.state.limiter.succeed(*keys)
    often: Key = (limiter.LOGINS, "logins", str(verified.user.id), neighbourhood_of(_address(request)))
    if wait := await request.state.limiter.wait(often):
        log.event("login limited", **who)
        return _too_many("accounts/login.html", form, wait)
    if verified.user.totp_secret:
        # A new hash of the password waits for a login that is done in one step.
        ticket = second_factor.ticket(request.state.settings, verified.user)
        return pages.render("accounts/code.html", form=Code(data={**form.data, "ticket": ticket}))
    return await _start(request, form, verified)


async def _is_in(request: Request) -> Response | None:
    """Somebody who is signed in needs no door; they go where it leads."""
    is_in = sessions.id_of(request.state.settings, request) and await pages.who(request)
    return pages.see_other(pages.local_path(request.query_params.get("next", ""))) if is_in else None


async def second_step(request: Request) -> Response:
    """The code that follows the password."""
    form = Code(await pages.form(request))
    first = Login(data={"username": form.username.data, "next": form.next.data})
    async with request.state.db() as db:
        user = await second_factor.holder(db, request.state.settings, form.ticket.data or "")
    if user is None:
        return _wrong(first, TOO_LATE)
    if not form.validate():
        return pages.render("accounts/code.html", 422, form=form)
    keys = _code_keys(request, user)
    if wait := await request.state.limiter.wait(*keys):
        log.event("login limited", user=user.username, address=_address(request))
        form.code.errors = [pages.too_many(wait)]
        return pages.render("accounts/code.html", 429, form=form)
    try:
        answer = await _start(request, first, Verified(user, None), form.code.data)
    except WrongCode:
        log.event("login code failed", user=user.username, address=_address(request))
        form.code.errors = [pages.WRONG_CODE]
        return pages.render("accounts/code.html", 422, form=form)
    await request.state.limiter.succeed(*keys)
    return answer


async def _start(request: Request, form: Login, verified: Verified, code: str | None = None) -> Response:
    """Raises WrongCode."""
    site, user = request.state, verified.user
    agent = request.headers.get("user-agent", "")
    browser = Browser(_address(request), agent, sessions.id_of(site.settings, request))
    try:
        async with site.db.begin() as db:
            if code is not None:
                await second_factor.use(db, user.id, code)
            cookie = await sessions.start(db, site.settings, site.endings, verified, browser)
    except PasswordChanged:
        return _wrong(form, WRONG)
    except Banned:
        log.event("login refused", user=user.username, address=browser.address)
        return _wrong(form, CLOSED)
    log.event("login", user=user.username, address=browser.address)
    # A user who has just logged in is not away, although no tab of theirs is open yet.
    await site.hub.renew_presence([user.id])
    answer = pages.see_other(pages.local_path(form.next.data or "/"))
    sessions.set_cookie(answer, request, cookie, site.settings.session_max_age)
    devices.remember(answer, site.settings, request, user.id, verified.password_hash)
    return answer


async def log_out(request: Request) -> Response:
    me = await pages.who(request)
    if me is not None:
        async with request.state.db() as db:
            await request.state.endings.log_out(db, me)
            await db.commit()
        log.event("log out", user=me.username, address=_address(request))
    answer = pages.see_other("/login")
    sessions.delete_cookie(answer, request)
    # Neither "storage", which holds messages that are not sent yet, nor "cookies", which hold the known device.
    answer.headers["Clear-Site-Data"] = '"cache"'
    return answer


def _keys(request: Request, user: User | None, username: str) -> list[Key]:
    """What an attempt to log in counts by: a known device is apart from everybody else."""
    if device := devices.known(request.state.settings, request, user):
        return [(limiter.FAILURES, "device", device)]
    address, account = neighbourhood_of(_address(request)), users.fold(username)[:64]
    return [
        (limiter.FAILURES, "login", address, account),
        (limiter.FAILURES_OF_AN_ADDRESS, "login-address", address),
        (limiter.FAILURES_OF_AN_ACCOUNT, "login-account", account),
    ]


def _code_keys(request: Request, user: User) -> list[Key]:
    """What an attempt at the second factor counts by.

    Somebody with the password may have many known devices, so these have a total too, apart from that of strangers.
    """
    account = str(user.id)
    if device := devices.known(request.state.settings, request, user):
        return [(limiter.FAILURES, "code-device", device), (limiter.FAILURES_OF_AN_ACCOUNT, "code-devices", account)]
    return [
        (limiter.FAILURES, "code", account, neighbourhood_of(_address(request))),
        (limiter.FAILURES_OF_AN_ACCOUNT, "code-strangers", account),
    ]


def _wrong(form: Login, said: Sentence) -> HTMLResponse:
    form.password.errors = [said]
    return pages.render("accounts/login.html", 422, form=form, registered=False)


def _busy(template: str, form: Login | Registration) -> HTMLResponse:
    form.password.errors = [pages.BUSY]
    page = pages.render(template, 503, form=form, registered=False)
    page.headers["Retry-After"] = pages.RETRY_AFTER
    return page


def _too_many(template: str, form: Login | Registration, wait: int) -> HTMLResponse:
    form.password.errors = [pages.too_many(wait)]
    page = pages.render(template, 429, form=form, registered=False)
    page.headers["Retry-After"] = str(wait)
    return page


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"
