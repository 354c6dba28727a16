"""The chat list and the chat window."""

import logging
from secrets import token_urlsafe
from urllib.parse import urlencode

from starlette.responses import HTMLResponse, Response

from web.accounts.sessions import SignedIn
from web.chat import conversations, fragments, lists, messages
from web.chat.cache import Latest
from web.chat.conversations import Pair
from web.chat.lists import Entry
from web.chat.messages import Refused
from web.data import postgres
from web.site import Request
from web.views import pages

log = logging.getLogger(__name__)


@pages.signed_in_with_chats
async def index(request: Request, me: SignedIn, entries: list[Entry]) -> Response:
    """The list; `after` (an entry's place) asks for the page that follows it."""
    after = request.query_params.get("after", "")
    if after:
        entries = await lists.listed(request.state.reader, me.id, after)
    if pages.is_htmx(request):
        return pages.render("chat/_entries.html", entries=entries, first=not after)
    return pages.render("chat/chats.html", me=me, entries=entries)


@pages.signed_in_with_chats
async def chat(request: Request, me: SignedIn, entries: list[Entry]) -> Response:
    pair = await pages.pair_of(request, me)
    return await _window(request, me, pair, entries, draft=request.query_params.get("draft", ""))


@pages.signed_in
async def older_or_changed(request: Request, me: SignedIn) -> Response:
    """`before=SEQ`: older messages, also as a page of their own; `after=VERSION`: what changed since."""
    pair = await pages.pair_of(request, me)
    after = pages.number(request, "after")
    before = pages.number(request, "before")
    reader = request.state.reader
    if after is not None:
        items, reached, more = await messages.after(reader, pair, after)
        return pages.render("chat/_changes.html", pair=pair, me=me, items=items, reached=reached, more=more)
    if before is None:
        return pages.see_other(f"/chat/{pair.other(me.id).username}")
    items = await messages.before(reader, pair, before)
    first_seq = before - len(items) if items else 1
    if pages.is_htmx(request):
        return pages.render("chat/_older.html", pair=pair, me=me, items=items, first_seq=first_seq)
    entries = await lists.listed(reader, me.id)
    return await _window(request, me, pair, entries, older=Latest(0, before - 1, items))


async def post(request: Request) -> Response:
    """The way without JavaScript, and of retries, which know from the answer that the message is kept."""
    form = await request.form()
    body, nonce = str(form.get("body", "")), str(form.get("nonce", ""))
    try:
        return await _post(request, body, nonce)
    except postgres.UNAVAILABLE as error:
        log.warning("A message waits with its author: PostgreSQL is away (%s)", error)
        return _unsent(request, body, nonce, pages.UNAVAILABLE)


async def _post(request: Request, body: str, nonce: str) -> Response:
    me = await pages.who(request)
    if me is None:
        # The session ended while this was written; it is in the composer again after the login.
        return pages.to_login(request, f"{request.url.path.removesuffix('/messages')}?{urlencode({'draft': body})}")
    pair = await pages.pair_of(request, me)
    try:
        posted = await request.state.writer.write(pair, me.id, messages.check(body, nonce), nonce)
    except Refused as refused:
        if refused.retry:
            return _unsent(request, body, nonce, str(refused))
        if pages.is_htmx(request):
            return HTMLResponse(fragments.refusal(nonce, str(refused), retry=False), 422)
        entries = await lists.listed(request.state.reader, me.id)
        return await _window(request, me, pair, entries, draft=body, nonce=nonce, said=str(refused), status=422)
    if pages.is_htmx(request):
        return HTMLResponse(posted.swap)
    return pages.see_other(f"/chat/{pair.other(me.id).username}")


def _unsent(request: Request, body: str, nonce: str, said: str) -> Response:
    """A page that needs no database, with what was written in it, to be sent again with its nonce."""
    if pages.is_htmx(request):
        answer = HTMLResponse(fragments.refusal(nonce, said, retry=True), 503)
    else:
        answer = pages.render("chat/unsent.html", 503, path=request.url.path, body=body, nonce=nonce, said=said)
    answer.headers["Retry-After"] = pages.RETRY_AFTER
    return answer


async def _window(
    request: Request,
    me: SignedIn,
    pair: Pair,
    entries: list[Entry],
    *,
    older: Latest | None = None,
    draft: str = "",
    nonce: str = "",
    said: str = "",
    status: int = 200,
) -> HTMLResponse:
    """The chat, with what could not be sent still in its composer; `older` shows that instead of the latest."""
    here = next((chat for chat in entries if chat.conversation_id == pair.id), None)
    if here:
        version, unread = here.version, here.unread
    else:
        version, unread = await conversations.where(request.state.reader, me.id, pair.id)
    latest = older or await request.state.latests.of(pair, version)
    if older is None and (unread or latest.version > version):
        await conversations.mark_read(request.state.reader, me.id, pair.id, latest.version)
        request.state.chat_lists.changed(pair.id, me.id)
        entries = [chat._replace(read_seq=chat.last_seq) if chat is here else chat for chat in entries]
    return pages.render(
        "chat/chat.html",
        status,
        me=me,
        pair=pair,
        other=pair.other(me.id),
        latest=latest,
        is_older=older is not None,
        entries=entries,
        draft=draft,
        nonce=nonce or token_urlsafe(16),
        said=said,
    )
