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
    template = "accounts/_people.html" if pages.is_htmx(request) else "accounts/users.html"
    return pages.render(template, me=me, q=q, people=people, full=len(people) == users.PAGE)
