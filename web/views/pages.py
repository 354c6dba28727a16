"""What all views share: rendering pages, knowing who asks, and the answers for errors."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import parse_qsl, quote

import segno
from markupsafe import Markup
from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from web import templates, words
from web.accounts import sessions
from web.accounts.sessions import SignedIn
from web.chat import lists
from web.chat.conversations import Conversation
from web.chat.lists import Entry
from web.site import Connection, Request
from web.words import Counted, Sentence

log = logging.getLogger(__name__)

View = Callable[[Request], Awaitable[Response]]
SignedInView = Callable[[Request, SignedIn], Awaitable[Response]]
SignedInWithChatsView = Callable[[Request, SignedIn, list[Entry]], Awaitable[Response]]

TRY_AGAIN_SOON = Sentence("Knock cannot reach its database at the moment. Nothing is lost; try again in a few seconds.")
BUSY = Sentence("Many people are logging in at this moment. Try again in a few seconds.")
WRONG_CODE = Sentence("This code is not right, or was used already. Take the one that your app shows now.")
RETRY_AFTER = "3"
THEMES = ("light", "dark")
"""What a browser may choose against its system."""
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
    return render(
        template, status_code, me=me, layout=layout, theme=theme(request), scripts=scripts(request), **context
    )


def scripts(request: Request) -> str:
    """How many hours the browser's clock has, 12 or 24, if it runs scripts; else empty."""
    hours = request.cookies.get("scripts", "")
    return hours if hours in ("12", "24") else ""


def theme(request: Request) -> str:
    """What the browser chose against its system; empty if nothing."""
    chosen = request.cookies.get("theme", "")
    return chosen if chosen in THEMES else ""


def qr(address: str) -> Markup:
    """An address that we made as an SVG without styles, dark on light whatever the page's colours.

    Some phones read nothing else.
    """
    code = segno.make(address, error="m", micro=False)
    # segno draws it, so nothing in it was written by a user.
    title = words.gettext("QR code")
    return Markup(code.svg_inline(scale=5, border=3, light="#fff", svgclass="qr", lineclass=None, title=title))  # noqa: S704


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
        await _recognise(request, found[0])
        return await view(request, *found)

    return guarded


async def who(connection: Connection) -> SignedIn | None:
    me = await sessions.current(connection.state.reader, sessions.id_of(connection.state.settings, connection))
    if me is not None:
        await _recognise(connection, me)
    return me


async def _recognise(connection: Connection, me: SignedIn) -> None:
    if me.language:
        words.speak(me.language)
    await sessions.see(connection.state.reader, me)


def _to_login_and_back(request: Request) -> Response:
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return to_login(request, here if request.method == "GET" else "/")


async def conversation_of(request: Request, me: SignedIn) -> Conversation:
    """The conversation that the address names, loaded through the signed-in user, so that a stranger's is a 404."""
    conversation = await request.state.conversations.find(me.id, request.path_params["username"])
    if conversation is None:
        raise HTTPException(404, words.gettext("Nobody here has that name, so there is no chat with them."))
    return conversation


def number(request: Request, name: str) -> int | None:
    """A whole number in the query, None if it is missing. Answers 422 if it is not a number."""
    text = request.query_params.get(name)
    if text is None:
        return None
    whole = bigint(text)
    if whole is None:
        raise HTTPException(422, str(Sentence("“%(name)s” in the address is not a number.", name=name)))
    return whole


async def form(request: Request) -> ImmutableMultiDict[str, str]:
    """The fields of the form that was sent. Answers 400 if there are too many."""
    body = (await request.body()).decode(errors="replace")
    parse = partial(parse_qsl, body, keep_blank_values=True, max_num_fields=FIELDS)
    try:
        # A long one may take a fifth of a second, in which this process would answer nobody.
        return ImmutableMultiDict(await asyncio.to_thread(parse) if len(body) > LONG else parse())
    except ValueError:
        raise HTTPException(400, str(Sentence("A form here has %(most)s fields at most.", most=FIELDS))) from None


def bigint(text: str) -> int | None:
    """A whole number that PostgreSQL's bigint holds; None if the text is none."""
    # Python refuses to read thousands of digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    return whole if (whole := int(text)) <= MAX_BIGINT else None


def too_many(wait: int) -> Sentence:
    """What to say to somebody who has to wait so many seconds."""
    minutes = -(-wait // 60)
    hours = -(-wait // 3600)
    if minutes > 90:
        return Counted(
            "Too many attempts. Try again in %(count)s hour.", "Too many attempts. Try again in %(count)s hours.", hours
        )
    return Counted(
        "Too many attempts. Try again in %(count)s minute.",
        "Too many attempts. Try again in %(count)s minutes.",
        minutes,
    )


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
