"""The settings page: the online token, Telegram, the password, the sessions."""

from starlette.responses import Response

from web.accounts import sessions, users
from web.accounts.forms import NewPassword
from web.accounts.sessions import SignedIn
from web.chat import blocks
from web.data.models import User
from web.site import Request
from web.telegram import linking
from web.views import pages, telegram_settings


@pages.signed_in
async def show(request: Request, me: SignedIn) -> Response:
    return await _page(request, me, NewPassword())


@pages.signed_in
async def change_password(request: Request, me: SignedIn) -> Response:
    """A new password also ends every other session, and the links to Telegram that were shown."""
    form = NewPassword(await request.form())
    if not form.validate():
        return await _page(request, me, form, 422)
    key = ("password", str(me.id))
    if wait := await request.state.limiter.wait(*key):
        form.current.errors = [f"Too many attempts. Try again in {-(-wait // 60)} minutes."]
        return await _page(request, me, form, 429)
    async with request.state.db() as db:
        user = await db.get_one(User, me.id)
        if not await users.verify_password(form.current.data, user.password_hash):
            form.current.errors = ["That is not your current password."]
            return await _page(request, me, form, 422)
        user.password_hash = await users.hash_password(form.password.data)
        await request.state.endings.end_others(db, me)
        await linking.drop_codes(db, me.id)
        await db.commit()
    await request.state.limiter.forget(*key)
    return pages.see_other("/settings?done=password")


@pages.signed_in
async def end_other_sessions(request: Request, me: SignedIn) -> Response:
    async with request.state.db() as db:
        await request.state.endings.end_others(db, me)
        await db.commit()
    return pages.see_other("/settings?done=sessions")


DONE = {
    "password": "Your password is changed, and every other session has ended.",
    "sessions": "Every other session has ended.",
}


async def _page(request: Request, me: SignedIn, form: NewPassword, status: int = 200) -> Response:
    async with request.state.db() as db:
        user = await db.get_one(User, me.id)
        mine = await sessions.listed(db, me)
        blocked = await blocks.listed(db, me.id)
    return pages.render(
        "accounts/settings.html",
        status,
        me=me,
        user=user,
        form=form,
        sessions=mine,
        blocked=blocked,
        done=DONE.get(request.query_params.get("done", ""), ""),
        **await telegram_settings.telegram_section(request, me),
    )
