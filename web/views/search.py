"""Search in one's own messages."""

from starlette.exceptions import HTTPException
from starlette.responses import Response

from web import words
from web.accounts.sessions import SignedIn
from web.chat import search
from web.chat.refusals import Refused
from web.chat.search import Hit
from web.site import Request
from web.views import pages


@pages.signed_in
async def index(request: Request, me: SignedIn) -> Response:
    """`q`: what to find; `in` (a name): in which chat; `order`: newest or best; `from` (a number): the first hit."""
    asked = request.query_params
    q, order = asked.get("q", "").strip(), "best" if asked.get("order") == "best" else "newest"
    name, offset = asked.get("in", ""), pages.number(request, "from") or 0
    hits: list[Hit] = []
    refused, looked_for = "", []
    if q:
        if not request.state.pace.allows(me.id):
            raise HTTPException(429, words.gettext("That was too much at once. Try again in a moment."))
        conversation = await request.state.conversations.find(me.id, name) if name else None
        if name and conversation is None:
            raise HTTPException(404, words.gettext("Nobody here has that name, so there is no chat with them."))
        try:
            query = search.parse(q)
            looked_for = list(query.words)
            async with request.state.db() as db:
                hits = await search.find(db, me.id, query, conversation.id if conversation else None, order, offset)
        except Refused as why:
            refused = str(why)
    return await pages.show(
        request,
        me,
        "chat/search.html",
        422 if refused and not pages.is_pane(request) else 200,  # an open page would take an error for no pane
        q=q[: search.LENGTH * 2],
        within=name,
        order=order,
        refused=refused,
        hits=[(hit, search.excerpt(hit.body, looked_for)) for hit in hits[: search.PAGE]],
        following=offset + search.PAGE if len(hits) > search.PAGE and offset < search.FURTHEST else None,
    )
