"""What all views share: rendering pages, knowing who asks, and the answers for errors."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, quote

import segno
from markupsafe import Markup
from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, RedirectResponse, Response

from web import templates
from web.accounts import sessions, users
from web.accounts.sessions import SignedIn
from web.chat import lists
from web.chat.conversations import Conversation
from web.chat.lists import Entry
from web.data import postgres
from web.site import Connection, Request

log = logging.getLogger(__name__)

View = Callable[[Request], Awaitable[Response]]
SignedInView = Callable[[Request, SignedIn], Awaitable[Response]]
SignedInWithChatsView = Callable[[Request, SignedIn, list[Entry]], Awaitable[Response]]

TRY_AGAIN_SOON = "Knock cannot reach its database at the moment. Nothing is lost; try again in a few seconds."
BUSY = "Many people are logging in at this moment. Try again in a few seconds."
WRONG_CODE = "This code is not right, or was used already. Take the one that your app shows now."
RETRY_AFTER = "3"
PANE = "section#pane"
"""What a request is for that swaps the pane beside the chat list, in htmx's words."""
MAX_BIGINT = 2**63 - 1
FIELDS = 100
"""That a form has at most."""
LONG = 8 * 1024
"""Characters of a form. A longer one is parsed in a thread."""


def render(template: str, status_code: int = 200, /, **context: object) -> HTMLResponse:
    return HTMLResponse(templates.page(template, **context), status_code)


def is_pane(request: Request) -> bool:
    """Whether a page of ours asks, which has the chat list already and puts another pane beside it."""
    return request.headers.get("hx-target") == PANE


async def show(
    request: Request,
    me: SignedIn,
    template: str,
    status_code: int = 200,
    /,
    *,
    entries: list[Entry] | None = None,
    **context: object,
) -> HTMLResponse:
    """A page of a signed-in user: with the chat list, or only its pane. `entries` spares asking for the list."""
    layout = "pane.html"
    if not is_pane(request):
        layout = "signed_in.html"
        context["entries"] = await lists.listed(request.state.reader, me.id) if entries is None else entries
    return render(template, status_code, me=me, layout=layout, **context)


def qr(address: str) -> Markup:
    """An address that we made as an SVG without styles, dark on light whatever the page's colours.

    Some phones read nothing else.
    """
    code = segno.make(address, error="m", micro=False)
    # segno draws it, so nothing in it was written by a user.
    return Markup(code.svg_inline(scale=5, border=3, light="#fff", svgclass="qr", lineclass=None, title="QR code"))  # noqa: S704


def see_other(path: str) -> Response:
    return RedirectResponse(path, 303)


def signed_in(view: SignedInView) -> View:
    """The view needs a login: everybody else is sent to log in first, and comes back to it."""

    async def guarded(request: Request) -> Response:
        me = await who(request)
        return await view(request, me) if me else _to_login_and_back(request)

    return guarded


def signed_in_with_chats(view: SignedInWithChatsView) -> View:
    """Like `signed_in`, for a view that also shows the first page of the chat list."""

    async def guarded(request: Request) -> Response:
        session_id = sessions.id_of(request.state.settings, request)
        found = await lists.of_session(request.state.reader, session_id)
        if found is None:
            return _to_login_and_back(request)
        await sessions.see(request.state.reader, found[0])
        return await view(request, *found)

    return guarded


async def who(connection: Connection) -> SignedIn | None:
    me = await sessions.current(connection.state.reader, sessions.id_of(connection.state.settings, connection))
    if me is not None:
        await sessions.see(connection.state.reader, me)
    return me


def _to_login_and_back(request: Request) -> Response:
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return to_login(request, here if request.method == "GET" else "/")


async def conversation_of(request: Request, me: SignedIn) -> Conversation:
    """The conversation that the address names, loaded through the signed-in user, so that a stranger's is a 404."""
    conversation = await request.state.conversations.find(me.id, request.path_params["username"])
    if conversation is None:
        raise HTTPException(404, "Nobody here has that name, so there is no chat with them.")
    return conversation


def number(request: Request, name: str) -> int | None:
    """A whole number in the query, None if it is missing. Answers 422 if it is not a number."""
    text = request.query_params.get(name)
    if text is None:
        return None
    whole = bigint(text)
    if whole is None:
        raise HTTPException(422, f"“{name}” in the address is not a number.")
    return whole


async def form(request: Request) -> ImmutableMultiDict[str, str]:
    """The fields of the form that was sent. Answers 400 if there are too many."""
    body = (await request.body()).decode(errors="replace")
    parse = partial(parse_qsl, body, keep_blank_values=True, max_num_fields=FIELDS)
    try:
        # A long one may take a fifth of a second, in which this process would answer nobody.
        return ImmutableMultiDict(await asyncio.to_thread(parse) if len(body) > LONG else parse())
    except ValueError:
        raise HTTPException(400, f"A form here has {FIELDS} fields at most.") from None


def bigint(text: str) -> int | None:
    """A whole number that PostgreSQL's bigint holds; None if the text is none."""
    # Python refuses to read thousands of digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    return whole if (whole := int(text)) <= MAX_BIGINT else None


def too_many(wait: int) -> str:
    """What to say to somebody who has to wait so many seconds."""
    minutes = -(-wait // 60)
    hours = -(-wait // 3600)
    if minutes > 90:
        return f"Too many attempts. Try again in {hours} hours."
    return f"Too many attempts. Try again in {minutes} minute{'s' if minutes > 1 else ''}."


def is_htmx(request: Request) -> bool:
    return request.headers.get("hx-request") == "true"


def local_path(path: str) -> str:
    """The path if it is on this site, otherwise the chat list."""
    is_local = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if is_local and path.isprintable() else "/"


def to_login(request: Request, back: str) -> Response:
    """To the login, and from there back to a path of this site."""
    login = f"/login?next={quote(back, safe='/')}"
    if is_htmx(request):
        return Response(status_code=401, headers={"HX-Redirect": login})
    return see_other(login)


def _page_of(action: str) -> str:
    """The page whose form goes to this address, which a reload or the history may open."""
    first, *more = action.strip("/").split("/")
    if first == "chat" and more:
        return f"/chat/{more[0]}"
    return "/" if first == "logout" else f"/{first}"


async def on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405 and request.method == "GET":
        return see_other(_page_of(request.url.path))
    said = error.detail
    if error.status_code == 404 and said == "Not Found":
        said = "There is nothing at this address."
    page = render("error.html", error.status_code, status=error.status_code, said=said)
    page.headers.update(error.headers or {})
    return page


async def on_unavailable(request: Request, error: Exception) -> Response:
    log.warning("%s %s cannot be answered: PostgreSQL is away (%s)", request.method, request.url.path, error)
    page = render("error.html", 503, status=503, said=TRY_AGAIN_SOON)
    page.headers["Retry-After"] = RETRY_AFTER
    return page


async def on_busy(_request: Request, _error: Exception) -> Response:
    page = render("error.html", 503, status=503, said=BUSY)
    page.headers["Retry-After"] = RETRY_AFTER
    return page


async def on_client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def on_error(_request: Request, _error: Exception) -> Response:
    return render("error.html", 500, status=500, said="Something went wrong on our side. It has been noted.")


HANDLERS: dict[Any, Any] = {
    HTTPException: on_http_error,
    **dict.fromkeys(postgres.DATABASE_AWAY, on_unavailable),
    ClientDisconnect: on_client_gone,
    users.Busy: on_busy,
    Exception: on_error,
}
