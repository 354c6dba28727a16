"""The devices that get notices by Web Push: static/notices.js says here which they are."""

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from web import words
from web.accounts.sessions import SignedIn
from web.notifications import push
from web.site import Request
from web.views import pages


@pages.signed_in
async def add(request: Request, me: SignedIn) -> Response:
    """The fields `endpoint`, `p256dh` and `auth` are what the browser says of its subscription."""
    form = await pages.form(request)
    endpoint, p256dh, auth = (str(form.get(name, "")) for name in ("endpoint", "p256dh", "auth"))
    if not push.is_valid(request.state.settings, endpoint, p256dh, auth):
        said = words.gettext(
            "Knock cannot send notices to this browser: it names a push service that Knock does not know."
        )
        return PlainTextResponse(said, 422)
    async with request.state.db.begin() as db:
        await push.add(db, me.id, endpoint, p256dh, auth)
    return Response(status_code=204)


@pages.signed_in
async def remove(request: Request, me: SignedIn) -> Response:
    """The device `endpoint` gets no more notices."""
    endpoint = str((await pages.form(request)).get("endpoint", "")).replace("\0", "")
    async with request.state.db.begin() as db:
        await push.remove(db, me.id, endpoint)
    return Response(status_code=204)


routes = [
    Route("/settings/devices", add, methods=["POST"]),
    Route("/settings/devices/remove", remove, methods=["POST"]),
]
