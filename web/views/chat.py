"""The chat list and the chat window."""

import logging
from collections.abc import Mapping
from secrets import token_urlsafe

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from web import words
from web.accounts.sessions import SignedIn
from web.chat import drafts, fragments, history, lists, reactions, reading
from web.chat.conversations import Conversation
from web.chat.history import Page
from web.chat.lists import Entry
from web.chat.refusals import Cause, Refused, too_fast
from web.data import postgres
from web.site import Request
from web.views import pages

log = logging.getLogger(__name__)

SCRIPTS = "scripts"
"""The cookie of browsers that run the page's scripts."""
FIRST_UNREAD = 40
"""With more unread messages than that, a chat opens around the first one: the newest page would not show it."""


@pages.signed_in_with_chats
async def index(request: Request, me: SignedIn, entries: list[Entry]) -> Response:
    """The list; `after` (the place of an entry) asks for the page after it."""
    if pages.is_pane(request):
        return await pages.show(request, me, "chat/chats.html")
    after = request.query_params.get("after", "")
    if after:
        entries = await lists.listed(request.state.reader, me.id, after)
    if pages.is_htmx(request):
        if not after:
            moved = await reading.deliver_list(request.state.reader, me.id)
            if moved:  # read anew: meanwhile another frame may have moved the same entries further
                request.state.list_updates.moved(entry for entry in moved if entry.user_id != me.id)
                entries = await lists.listed(request.state.reader, me.id)
        # A page that has all chats counts for itself.
        total = await lists.unread(request.state.reader, me.id) if len(entries) >= lists.PAGE else ""
        presence = await _presence(request, me, [entry.conversation_id for entry in entries])
        return pages.render("chat/_entries.html", entries=entries, first=not after, total=total, presence=presence)
    return await pages.show(request, me, "chat/chats.html", entries=entries)


@pages.signed_in_with_chats
async def chat(request: Request, me: SignedIn, entries: list[Entry]) -> Response:
    """The chat; `around` (a seq) opens it at a message, `end` at the newest one however many are unread.

    Links in messages, which are the same for all readers, lead to a message's own page by `message` (a seq).
    """
    conversation = await pages.conversation_of(request, me)
    if seq := pages.number(request, "message"):
        return pages.see_other(f"/chat/{conversation.name(me.id)}/messages/{seq}")
    return await _window(request, me, conversation, entries, around=pages.number(request, "around"))


@pages.signed_in
async def messages(request: Request, me: SignedIn) -> Response:
    """`before=SEQ`: older messages. `since=SEQ`: newer ones. `after=VERSION`: what has changed since.

    With `after`, `first=SEQ` says from which message on the page shows the conversation.
    """
    conversation = await pages.conversation_of(request, me)
    after, before, since = (pages.number(request, name) for name in ("after", "before", "since"))
    reader, name = request.state.reader, conversation.name(me.id)
    shown = {"conversation": conversation, "name": name}
    if after is not None:
        changes = await history.after(reader, conversation, me.id, after, pages.number(request, "first") or 1)
        presence = await _presence(request, me, [conversation.id])
        return pages.render("chat/_changes.html", changes=changes, presence=presence, **shown)
    if not pages.is_htmx(request):
        if {"message", "around"} & request.query_params.keys():
            # Links in messages are relative, so they may lead here too.
            return pages.see_other(f"/chat/{name}?{request.url.query}")
        if before is None:
            return pages.see_other(f"/chat/{name}" + (f"?around={since}" if since else ""))
        page = await history.before(reader, conversation, me.id, before)
        return await _window(request, me, conversation, await lists.listed(reader, me.id), page=page)
    if before is not None:
        return pages.render("chat/_older.html", page=await history.before(reader, conversation, me.id, before), **shown)
    return pages.render("chat/_newer.html", page=await history.since(reader, conversation, me.id, since or 0), **shown)


async def _presence(request: Request, me: SignedIn, conversation_ids: list[int]) -> Markup:
    seen = await request.state.presence_updates.of(me.id, conversation_ids)
    return Markup(fragments.presence(seen))  # noqa: S704 - a fragment


async def post(request: Request) -> Response:
    """The way without JavaScript, and the way of retries, which learn from the answer that the message is kept."""
    form = await pages.form(request)
    sent = {name: str(form.get(name, "")) for name in ("body", "nonce", "reply_to")}
    try:
        return await _post(request, **sent)
    except postgres.DATABASE_AWAY as error:
        log.warning("A message waits with its author: PostgreSQL is away (%s)", error)
        return unsent(request, sent, str(pages.TRY_AGAIN_SOON))


async def _post(request: Request, body: str, nonce: str, reply_to: str) -> Response:
    me = await pages.who(request)
    to = request.path_params["username"]
    sent = {"body": body, "nonce": nonce, "reply_to": reply_to}
    if me is None:
        return unsent(
            request, sent, words.gettext("Your session has ended. Log in, then send your message again."), 401
        )
    try:
        if not request.state.pace.allows(me.id):
            raise too_fast()
        posted = await (await request.state.messages.post(me.id, to, body, nonce, reply_to))
    except Refused as refused:
        if refused.cause is Cause.NOBODY:
            raise HTTPException(404, str(refused)) from None
        if refused.retry:
            status = 429 if refused.cause is Cause.PACE else 503
            return unsent(request, sent, str(refused), status)
        if pages.is_htmx(request):
            return HTMLResponse(fragments.refusal(nonce, str(refused), retry=False), 422)
        conversation = await pages.conversation_of(request, me)
        entries = await lists.listed(request.state.reader, me.id)
        return await _window(request, me, conversation, entries, draft=body, nonce=nonce, said=str(refused), status=422)
    if pages.is_htmx(request):
        return HTMLResponse(posted.swap)
    await drafts.save(request.state.reader, me.id, posted.conversation.id, "", body)
    return pages.see_other(f"/chat/{posted.conversation.name(me.id)}")


def unsent(request: Request, sent: Mapping[str, str], said: str, status: int = 503) -> Response:
    """A page that needs no database, with the fields that were sent, to be sent again; `body` is what was written."""
    if pages.is_htmx(request):
        answer = HTMLResponse(fragments.refusal(sent.get("nonce", ""), said, retry=True), status)
    else:
        again = {"path": request.url.path, "sent": sent, "to_log_in": status == 401}
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
    around: int | None = None,
    page: Page | None = None,
    draft: str | None = None,
    nonce: str = "",
    said: str = "",
    status: int = 200,
) -> HTMLResponse:
    """The chat, with what could not be sent still in its composer.

    It shows `page`, else the messages around a seq, else those around the first unread one, else the newest ones.
    """
    site = request.state
    here = next((entry for entry in entries if entry.conversation_id == conversation.id), None)
    further = [] if here or not conversation.id else await lists.entries(site.reader, [(conversation.id, me.id)])
    state = here or await reading.state(site.reader, me.id, conversation.id)
    version = state.version
    end = "end" in request.query_params
    at = state.read_seq + 1 if around is None and state.unread > FIRST_UNREAD and not end else around
    if page is None and at is not None:
        page = await history.around(site.reader, conversation, me.id, at, state.last_seq)
    if page is None:
        latest = await site.latests.of(conversation, version)
        version, page = latest.version, await history.newest(site.reader, conversation, me.id, latest)
    # A page with scripts says itself how far its reader got.
    if SCRIPTS not in request.cookies and (state.unread or version > state.version):
        mark, seen = (reading.mark, version) if page.last_seq is None else (reading.mark_to, page.last_seq)
        site.list_updates.moved(await mark(site.reader, me.id, conversation.id, seen))
        read = state.last_seq if page.last_seq is None else max(state.read_seq, page.last_seq)
        entries = [entry._replace(read_seq=read) if entry is here else entry for entry in entries]
    return await pages.show(
        request,
        me,
        "chat/chat.html",
        status,
        conversation=conversation,
        name=conversation.name(me.id),
        title=conversation.title(me.id),
        hue=conversation.others(me.id)[0].hue,
        version=version,
        state=state,
        page=page,
        around=around,
        html=fragments.with_mine(page.html, me.username),
        is_blocker=conversation.is_blocker(me.id),
        entries=entries,
        further=further,
        draft=state.draft if draft is None else draft,
        reached=here or next(iter(further), None),
        quick=reactions.QUICK,
        nonce=nonce or token_urlsafe(16),
        said=said,
    )
