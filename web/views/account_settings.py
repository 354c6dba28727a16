"""The settings page: the online token, Telegram, the password, the sessions."""

from sqlalchemy import select, update
from starlette.exceptions import HTTPException
from starlette.responses import Response

from web import log
from web.accounts import invitations, limiter, sessions, users
from web.accounts.forms import WEAK, Myself, NewPassword
from web.accounts.limiter import Key
from web.accounts.sessions import SignedIn
from web.chat import blocks, reading
from web.chat.conversations import PEOPLE_CHANGED
from web.data.models import User
from web.notifications import push
from web.site import Request
from web.telegram import linking
from web.views import pages, telegram_settings
from web.words import Sentence

YEAR = 365 * 24 * 3600
"""Seconds that a browser keeps whether its pages are light or dark."""


@pages.signed_in
async def show(request: Request, me: SignedIn) -> Response:
    return await _page(request, me, NewPassword())


@pages.signed_in
async def change_myself(request: Request, me: SignedIn) -> Response:
    """What the others call the user, their colour, and the language."""
    form = Myself(await pages.form(request))
    if not form.validate():
        return await _page(request, me, NewPassword(), 422, myself=form)
    name = form.display_name.data or None
    async with request.state.db.begin() as db:
        if name and await users.is_anothers(db, me.id, name):
            form.display_name.errors = [Sentence("This name looks like somebody else's username. Choose another one.")]
            return await _page(request, me, NewPassword(), 422, myself=form)
        hue, language = form.hue.data or "", form.language.data or ""
        chosen = {"display_name": name, "hue": int(hue) if hue else None, "language": language or None}
        await db.execute(update(User).where(User.id == me.id).values(**chosen))
    request.state.hub.notify(PEOPLE_CHANGED, [me.id])
    answer = pages.see_other("/settings?done=saved")
    theme = str((await pages.form(request)).get("theme", ""))
    sessions.set_cookie(answer, request, theme if theme in pages.THEMES else "", YEAR, "theme")
    return answer


@pages.signed_in
async def change_privacy(request: Request, me: SignedIn) -> Response:
    """What the others do not see of the user, who then sees nothing of the kind either."""
    form = await pages.form(request)
    async with request.state.db.begin() as db:
        moved = await reading.hide(db, me.id, hides="hides_reading" in form)
        hides_presence = "hides_presence" in form
        await db.execute(update(User).where(User.id == me.id).values(hides_presence=hides_presence))
    request.state.list_updates.moved(moved)
    request.state.presence_updates.tell(me.id)
    return pages.see_other("/settings?done=saved")


@pages.signed_in
async def change_password(request: Request, me: SignedIn) -> Response:
    """A new password also ends every other session, and the links to Telegram that were shown."""
    form = NewPassword(await pages.form(request))
    if not form.validate():
        return await _page(request, me, form, 422)
    key: Key = (limiter.FAILURES, "password", str(me.id))
    if wait := await request.state.limiter.wait(key):
        form.current.errors = [pages.too_many(wait)]
        return await _page(request, me, form, 429)
    try:
        status = await _change_password(request, me, form)
    except users.Busy:
        form.current.errors = [pages.BUSY]
        status = 503
    if status != 200:
        why = (list(form.current.errors) + list(form.password.errors))[0]
        log.event("password kept", user=me.username, reason=str(why))
        return await _page(request, me, form, status)
    log.event("password changed", user=me.username)
    await request.state.limiter.succeed(key)
    return pages.see_other("/settings?done=password")


async def _change_password(request: Request, me: SignedIn, form: NewPassword) -> int:
    """The status of the answer. An error stands in the form."""
    async with request.state.db() as db:
        user = await db.get_one(User, me.id)
    if not await users.verify_password(form.current.data, user.password_hash):
        form.current.errors = [Sentence("That is not your current password.")]
        return 422
    if await users.is_weak(form.password.data, me.username):
        form.password.errors = [WEAK]
        return 422
    new_hash = await users.hash_password(form.password.data)
    async with request.state.db.begin() as db:
        # Against logins with the old password that are under way: they lock the row too, and compare the hash.
        locked = await db.scalar(select(User.password_hash).where(User.id == me.id).with_for_update())
        if locked != user.password_hash:
            form.current.errors = [Sentence("Your password was changed a moment ago, in another window.")]
            return 422
        await db.execute(update(User).where(User.id == me.id).values(password_hash=new_hash))
        await request.state.endings.end_others(db, me)
        await linking.drop_codes(db, me.id)
    return 200


@pages.signed_in
async def end_other_sessions(request: Request, me: SignedIn) -> Response:
    async with request.state.db() as db:
        await request.state.endings.end_others(db, me)
        await db.commit()
    log.event("other sessions ended", user=me.username)
    return pages.see_other("/settings?done=sessions")


@pages.signed_in
async def end_session(request: Request, me: SignedIn) -> Response:
    """End one session of the list."""
    async with request.state.db.begin() as db:
        was_mine = await request.state.endings.end_one(db, me, _id(request))
    if was_mine:
        log.event("session ended", user=me.username)
    return pages.see_other("/settings?done=session#sessions")


@pages.signed_in
async def invite(request: Request, me: SignedIn) -> Response:
    """Make an invitation. Its link is shown now and never again."""
    if request.state.settings.sign_up != "invite":
        raise HTTPException(404)
    note = str((await pages.form(request)).get("note", "")).replace("\0", "").strip()
    async with request.state.db.begin() as db:
        code = await invitations.make(db, me.id, note)
    if code is None:
        return await _page(request, me, NewPassword(), 422, too_many_invitations=True)
    return await _page(
        request, me, NewPassword(), invitation=f"{request.state.settings.site_url}/register?invitation={code}"
    )


@pages.signed_in
async def withdraw(request: Request, me: SignedIn) -> Response:
    async with request.state.db.begin() as db:
        await invitations.withdraw(db, me.id, _id(request))
    return pages.see_other("/settings#invitations")


def _id(request: Request) -> bytes:
    """The id of a row, as the address has it. Answers 404 if it is none."""
    try:
        return bytes.fromhex(request.path_params["id"])
    except ValueError:
        raise HTTPException(404) from None


DONE = {
    "saved": Sentence("Saved."),
    "password": Sentence("Your password is changed, and every other session has ended."),
    "session": Sentence("That session has ended."),
    "sessions": Sentence("Every other session has ended."),
}


async def _page(
    request: Request,
    me: SignedIn,
    form: NewPassword,
    status: int = 200,
    *,
    invitation: str = "",
    too_many_invitations: bool = False,
    myself: Myself | None = None,
) -> Response:
    async with request.state.db() as db:
        user = await db.get_one(User, me.id)
        mine = await sessions.listed(db, me)
        blocked = await blocks.listed(db, me.id)
        by_invitation = request.state.settings.sign_up == "invite"
        invited = await invitations.listed(db, me.id) if by_invitation else None
    return await pages.show(
        request,
        me,
        "accounts/settings.html",
        status,
        user=user,
        form=form,
        myself=myself
        or Myself(
            data={
                "display_name": user.display_name,
                "hue": "" if user.hue is None else str(user.hue),
                "language": user.language or "",
            }
        ),
        sessions=mine,
        blocked=blocked,
        push_key=push.public_key(request.state.settings),
        invitations=invited,
        open_invitations=invitations.OPEN,
        invitation=invitation,
        too_many_invitations=too_many_invitations,
        done=DONE.get(request.query_params.get("done", ""), ""),
        **await telegram_settings.telegram_section(request, me),
    )
