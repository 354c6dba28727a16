"""All users."""

from starlette.responses import Response

from web.accounts import users
from web.accounts.sessions import SignedIn
from web.site import Request
from web.views import pages


@pages.signed_in
async def index(request: Request, me: SignedIn) -> Response:
    """Everybody registered, by name; `q` searches, `after` (a name) asks for the page that follows it."""
    q = request.query_params.get("q", "").strip()[:64]
    after = request.query_params.get("after", "")[:64]
    async with request.state.db() as db:
        people = await users.listed(db, q, after)
    full = len(people) == users.PAGE
    if pages.is_htmx(request) and not pages.is_pane(request):
        return pages.render("accounts/_people.html", me=me, q=q, people=people, full=full)
    return await pages.show(request, me, "accounts/users.html", q=q, people=people, full=full)
