"""The administrators' page: who is here, and who may not be."""

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from web import log, words
from web.accounts import administration, users
from web.accounts.sessions import SignedIn
from web.data.models import User
from web.site import Request
from web.views import pages


@pages.signed_in
async def show(request: Request, me: SignedIn) -> Response:
    """A page of users: those whose name contains `q`, from the first one after `after`."""
    q, after = request.query_params.get("q", ""), request.query_params.get("after", "")
    await _demand_admin(request, me)
    async with request.state.db() as db:
        found = await administration.listed(db, q, after)
    hints = request.state.proxies.hints
    more = len(found) == users.PAGE
    return await pages.show(request, me, "admin/users.html", users=found, q=q, more=more, hints=hints)


@pages.signed_in
async def act(request: Request, me: SignedIn) -> Response:
    """Ban or unban a user, or end their sessions."""
    await _demand_admin(request, me)
    action = administration.ACTIONS.get(request.path_params["action"])
    if action is None:
        raise HTTPException(404)
    async with request.state.db.begin() as db:
        user = await users.find(db, request.path_params["username"])
        if user is None:
            raise HTTPException(404, words.gettext("Nobody here has that name."))
        if user.id == me.id:
            raise HTTPException(
                422, words.gettext("This page does nothing to your own account. Another administrator can.")
            )
        await action(db, request.state.endings, user)
    log.event(request.path_params["action"], user=user.username, by=me.username)
    return pages.see_other("/admin")


async def _demand_admin(request: Request, me: SignedIn) -> None:
    """Everybody else finds nothing here."""
    async with request.state.db() as db:
        if not (await db.get_one(User, me.id)).is_admin:
            raise HTTPException(404)


routes = [
    Route("/admin", show),
    Route("/admin/users/{username}/{action}", act, methods=["POST"]),
]
