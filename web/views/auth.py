"""Register, log in, log out."""

from starlette.responses import HTMLResponse, Response

from web import templates
from web.accounts import sessions, users
from web.accounts.forms import Login, Registration
from web.accounts.users import UsernameTaken
from web.site import Request
from web.views import pages


async def register(request: Request) -> Response:
    form = Registration(await request.form() if request.method == "POST" else None)
    if request.method == "GET":
        return pages.render("accounts/register.html", form=form)
    valid = form.validate()
    key = ("register", _address(request), users.fold(form.username.data or ""))
    if not form.username.errors and (wait := await request.state.limiter.wait(*key)):
        return _too_many("accounts/register.html", form, wait)
    if valid:
        try:
            async with request.state.db() as db:
                user = await users.register(db, form.username.data, form.password.data)
        except UsernameTaken:
            form.username.errors = ["Somebody has this name already. Choose another one."]
        else:
            await request.state.limiter.forget(*key)
            return pages.see_other(f"/login?registered={user.username}")
    return pages.render("accounts/register.html", 422, form=form)


async def login(request: Request) -> Response:
    if request.method == "GET":
        registered = request.query_params.get("registered", "")
        form = Login(data={"username": registered, "next": request.query_params.get("next", "")})
        return pages.render("accounts/login.html", form=form, registered=bool(registered))
    form = Login(await request.form())
    if not form.validate():
        return pages.render("accounts/login.html", 422, form=form, registered=False)
    key = ("login", _address(request), users.fold(form.username.data)[:64])
    if wait := await request.state.limiter.wait(*key):
        return _too_many("accounts/login.html", form, wait)
    async with request.state.db() as db:
        user = await users.authenticate(db, form.username.data, form.password.data)
        if user is None:
            form.password.errors = ["That username and password do not belong together."]
            return pages.render("accounts/login.html", 422, form=form, registered=False)
        agent = request.headers.get("user-agent", "")
        cookie = await sessions.start(db, request.state.settings, user, agent)
        await db.commit()
    await request.state.limiter.forget(*key)
    # A user who has just logged in is not away, although no tab of theirs is open yet.
    await request.state.hub.renew_presence([user.id])
    answer = pages.see_other(pages.local_path(form.next.data or "/"))
    sessions.set_cookie(answer, request, cookie, request.state.settings.session_max_age)
    return answer


async def log_out(request: Request) -> Response:
    me = await pages.who(request)
    if me is not None:
        async with request.state.db() as db:
            await request.state.endings.log_out(db, me)
            await db.commit()
    answer = pages.see_other("/login")
    sessions.delete_cookie(answer, request)
    return answer


def _too_many(template: str, form: Login | Registration, wait: int) -> HTMLResponse:
    minutes = -(-wait // 60)
    said = f"Too many attempts. Try again in {minutes} minute{'s' if minutes > 1 else ''}."
    form.password.errors = [said]
    page = HTMLResponse(templates.page(template, form=form, registered=False), 429)
    page.headers["Retry-After"] = str(wait)
    return page


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"
