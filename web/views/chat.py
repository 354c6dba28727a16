"""The chat list and the chat window."""

import logging
from collections.abc import Awaitable, Callable
from secrets import token_urlsafe

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from web.accounts.sessions import SignedIn
from web.chat import blocks, conversations, fragments, history, lists
from web.chat.conversations import Conversation
from web.chat.history import Page
from web.chat.lists import Entry
from web.chat.refusals import Cause, Refused, too_fast
from web.data import postgres
from web.site import Request, Site
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
    return await _window(request, me, conversation, entries)


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
        changes = await history.after(reader, conversation, me.id, after, pages.number(request, "first") or 1)
        return pages.render("chat/_changes.html", conversation=conversation, name=name, changes=changes)
    if before is None:
        return pages.see_other(f"/chat/{name}")
    older = await history.before(reader, conversation, me.id, before)
    if pages.is_htmx(request):
        return pages.render("chat/_older.html", conversation=conversation, name=name, older=older)
    return await _window(request, me, conversation, await lists.listed(reader, me.id), older=older)


@pages.signed_in
async def block(request: Request, me: SignedIn) -> Response:
    return await _change_block(request, me, blocks.block)


@pages.signed_in
async def unblock(request: Request, me: SignedIn) -> Response:
    return await _change_block(request, me, blocks.unblock)


async def _change_block(
    request: Request, me: SignedIn, change: Callable[[AsyncSession, Conversation, int], Awaitable[None]]
) -> Response:
    """The form `back` leads to another page than the chat afterwards."""
    if not request.state.pace.allows(me.id):
        raise HTTPException(429, "That was too much at once. Try again in a moment.")
    conversation = await pages.conversation_of(request, me)
    async with request.state.db.begin() as db:
        await change(db, conversation, me.id)
    request.state.hub.notify(conversations.PEOPLE_CHANGED, [me.id])
    request.state.list_updates.changed(conversation.id, [me.id])
    back = str((await pages.form(request)).get("back", ""))
    return pages.see_other(pages.local_path(back) if back else f"/chat/{conversation.name(me.id)}")


async def post(request: Request) -> Response:
    """The way without JavaScript, and the way of retries, which learn from the answer that the message is kept."""
    form = await pages.form(request)
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
        return _unsent(request, body, nonce, "Your session has ended. Log in, then send your message again.", 401)
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
        again = {"path": request.url.path, "body": body, "nonce": nonce, "to_log_in": status == 401}
        answer = pages.render("chat/unsent.html", status, said=said, **again)
    if status != 401:
        answer.headers["Retry-After"] = pages.RETRY_AFTER
    return answer


async def _window(
    request: Request,
    me: SignedIn,
    conversation: Conversation,
    entries: list[Entry],
    *,
    older: Page | None = None,
    draft: str = "",
    nonce: str = "",
    said: str = "",
    status: int = 200,
) -> HTMLResponse:
    """The chat, with what could not be sent still in its composer; `older` is shown instead of the latest messages."""
    here = next((entry for entry in entries if entry.conversation_id == conversation.id), None)
    version = 0
    if older is None:
        version, shown = await _read(request.state, me, conversation, here)
        entries = [entry._replace(read_seq=entry.last_seq) if entry is here else entry for entry in entries]
    else:
        shown = older
    return pages.render(
        "chat/chat.html",
        status,
        me=me,
        conversation=conversation,
        name=conversation.name(me.id),
        version=version,
        first_seq=shown.first_seq,
        html=fragments.with_mine(shown.html, me.username),
        is_older=older is not None,
        is_blocker=conversation.is_blocker(me.id),
        entries=entries,
        draft=draft,
        nonce=nonce or token_urlsafe(16),
        said=said,
    )


async def _read(site: Site, me: SignedIn, conversation: Conversation, here: Entry | None) -> tuple[int, Page]:
    """The latest messages, which count as read from now on, and their version. `here` is the chat's entry, if known."""
    state = here or await conversations.state(site.reader, me.id, conversation.id)
    latest = await site.latests.of(conversation, state.version)
    if state.unread or latest.version > state.version:
        await conversations.mark_read(site.reader, me.id, conversation.id, latest.version)
        site.list_updates.changed(conversation.id, [me.id])
    return latest.version, await history.newest(site.reader, conversation, me.id, latest)
