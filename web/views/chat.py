"""The chat list and the chat window."""

import logging
from secrets import token_urlsafe
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from web.accounts.sessions import SignedIn
from web.chat import conversations, fragments, history, lists
from web.chat.cache import Latest
from web.chat.conversations import Conversation
from web.chat.lists import Entry
from web.chat.refusals import Cause, Refused, too_fast
from web.data import postgres
from web.site import Request
from web.views import pages

log = logging.getLogger(__name__)


@pages.signed_in_with_chats
async def index(request: Request, me: SignedIn, entries: list[Entry]) -> Response:
    """The list; `after` (the place of an entry) asks for the page after it."""
    after = request.query_params.get("after", "")
    if after:
        entries = await lists.listed(request.state.reader, me.id, after)
    if pages.is_htmx(request):
        return pages.render("chat/_entries.html", entries=entries, first=not after)
    return pages.render("chat/chats.html", me=me, entries=entries)


@pages.signed_in_with_chats
async def chat(request: Request, me: SignedIn, entries: list[Entry]) -> Response:
    conversation = await pages.conversation_of(request, me)
    return await _window(request, me, conversation, entries, draft=request.query_params.get("draft", ""))


@pages.signed_in
async def older_or_changed(request: Request, me: SignedIn) -> Response:
    """`before=SEQ`: older messages, also as a page of their own. `after=VERSION`: what has changed since.

    With `after`, `first=SEQ` says from which message on the page shows the conversation.
    """
    conversation = await pages.conversation_of(request, me)
    after = pages.number(request, "after")
    before = pages.number(request, "before")
    reader, name = request.state.reader, conversation.name(me.id)
    if after is not None:
        changes = await history.after(reader, conversation, after, pages.number(request, "first") or 1)
        return pages.render("chat/_changes.html", conversation=conversation, name=name, changes=changes)
    if before is None:
        return pages.see_other(f"/chat/{name}")
    items = await history.before(reader, conversation, before)
    first_seq = before - len(items) if items else 1
    if pages.is_htmx(request):
        return pages.render("chat/_older.html", conversation=conversation, name=name, items=items, first_seq=first_seq)
    entries = await lists.listed(reader, me.id)
    return await _window(request, me, conversation, entries, older=Latest(0, before - 1, items))


async def post(request: Request) -> Response:
    """The way without JavaScript, and the way of retries, which learn from the answer that the message is kept."""
    form = await request.form()
    body, nonce = str(form.get("body", "")), str(form.get("nonce", ""))
    try:
        return await _post(request, body, nonce)
    except postgres.DATABASE_AWAY as error:
        log.warning("A message waits with its author: PostgreSQL is away (%s)", error)
        return _unsent(request, body, nonce, pages.TRY_AGAIN_SOON)


async def _post(request: Request, body: str, nonce: str) -> Response:
    me = await pages.who(request)
    to = request.path_params["username"]
    if me is None:
        # The session ended while this was written; it is in the composer again after the login.
        return pages.to_login(request, f"/chat/{to}?{urlencode({'draft': body})}")
    try:
        if not request.state.pace.allows(me.id):
            raise too_fast()
        posted = await (await request.state.messages.post(me.id, to, body, nonce))
    except Refused as refused:
        if refused.cause is Cause.NOBODY:
            raise HTTPException(404, str(refused)) from None
        if refused.retry:
            status = 429 if refused.cause is Cause.PACE else 503
            return _unsent(request, body, nonce, str(refused), status)
        if pages.is_htmx(request):
            return HTMLResponse(fragments.refusal(nonce, str(refused), retry=False), 422)
        conversation = await pages.conversation_of(request, me)
        entries = await lists.listed(request.state.reader, me.id)
        return await _window(request, me, conversation, entries, draft=body, nonce=nonce, said=str(refused), status=422)
    if pages.is_htmx(request):
        return HTMLResponse(posted.swap)
    return pages.see_other(f"/chat/{posted.conversation.name(me.id)}")


def _unsent(request: Request, body: str, nonce: str, said: str, status: int = 503) -> Response:
    """A page that needs no database, with what was written in it, to be sent again with its nonce."""
    if pages.is_htmx(request):
        answer = HTMLResponse(fragments.refusal(nonce, said, retry=True), status)
    else:
        answer = pages.render("chat/unsent.html", status, path=request.url.path, body=body, nonce=nonce, said=said)
    answer.headers["Retry-After"] = pages.RETRY_AFTER
    return answer


async def _window(
    request: Request,
    me: SignedIn,
    conversation: Conversation,
    entries: list[Entry],
    *,
    older: Latest | None = None,
    draft: str = "",
    nonce: str = "",
    said: str = "",
    status: int = 200,
) -> HTMLResponse:
    """The chat, with what could not be sent still in its composer; `older` is shown instead of the latest messages."""
    site = request.state
    here = next((entry for entry in entries if entry.conversation_id == conversation.id), None)
    state = here or await conversations.state(site.reader, me.id, conversation.id)
    latest = older or await site.latests.of(conversation, state.version)
    if older is None and (state.unread or latest.version > state.version):
        await conversations.mark_read(site.reader, me.id, conversation.id, latest.version)
        site.list_updates.changed(conversation.id, [me.id])
        entries = [entry._replace(read_seq=entry.last_seq) if entry is here else entry for entry in entries]
    return pages.render(
        "chat/chat.html",
        status,
        me=me,
        conversation=conversation,
        name=conversation.name(me.id),
        latest=latest,
        html=fragments.with_mine(latest.html, me.username),
        is_older=older is not None,
        entries=entries,
        draft=draft,
        nonce=nonce or token_urlsafe(16),
        said=said,
    )
