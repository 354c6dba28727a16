"""The chat list and the chat window."""

from datetime import UTC, datetime, timedelta
from secrets import token_urlsafe

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import HTMLResponse, Response

from web import conversations, fragments, messages
from web.cache import Latest
from web.conversations import Pair
from web.messages import Refused
from web.models import Conversation, Participant
from web.sessions import SignedIn
from web.site import Request
from web.views import pages

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pages.signed_in
async def chats(request: Request, me: SignedIn) -> Response:
    """The list; `before` (an `order`) asks for the page after the chat that has it."""
    order = pages.number(request, "before")
    before = (EPOCH + timedelta(microseconds=order), 0) if order else None
    async with request.state.db() as db:
        entries = await conversations.listed(db, me.id, before)
    if pages.is_htmx(request):
        return pages.render("_entries.html", entries=entries, first=before is None)
    return pages.render("chats.html", me=me, entries=entries)


@pages.signed_in
async def chat(request: Request, me: SignedIn) -> Response:
    pair = await pages.pair_of(request, me)
    return await _window(request, me, pair)


@pages.signed_in
async def older_or_changed(request: Request, me: SignedIn) -> Response:
    """`before=SEQ`: older messages, also as a page of their own; `after=VERSION`: what changed since."""
    pair = await pages.pair_of(request, me)
    after = pages.number(request, "after")
    before = pages.number(request, "before")
    async with request.state.db() as db:
        if after is not None:
            items, reached, more = await messages.after(db, pair, after)
            return pages.render("_changes.html", pair=pair, me=me, items=items, reached=reached, more=more)
        if before is None:
            return pages.see_other(f"/chat/{pair.other(me.id).username}")
        items = await messages.before(db, pair, before)
    first_seq = before - len(items) if items else 1
    if pages.is_htmx(request):
        return pages.render("_older.html", pair=pair, me=me, items=items, first_seq=first_seq)
    return await _window(request, me, pair, older=Latest(0, before - 1, items))


@pages.signed_in
async def post(request: Request, me: SignedIn) -> Response:
    """The way without JavaScript, and of retries, which know from the answer that the message is kept."""
    pair = await pages.pair_of(request, me)
    form = await request.form()
    body, nonce = str(form.get("body", "")), str(form.get("nonce", ""))
    try:
        posted = await request.state.writer.write(pair, me.id, messages.check(body, nonce), nonce)
    except Refused as refused:
        status = 503 if refused.retry else 422
        if pages.is_htmx(request):
            answer = HTMLResponse(fragments.refusal(nonce, str(refused), refused.retry), status)
        else:
            answer = await _window(request, me, pair, draft=body, nonce=nonce, said=str(refused), status=status)
        if refused.retry:
            answer.headers["Retry-After"] = pages.RETRY_AFTER
        return answer
    if pages.is_htmx(request):
        return HTMLResponse(posted.swap)
    return pages.see_other(f"/chat/{pair.other(me.id).username}")


async def _window(
    request: Request,
    me: SignedIn,
    pair: Pair,
    *,
    older: Latest | None = None,
    draft: str = "",
    nonce: str = "",
    said: str = "",
    status: int = 200,
) -> HTMLResponse:
    """The chat, with what could not be sent still in its composer; `older` shows that instead of the latest."""
    async with request.state.db() as db:
        version, read_seq = await _where(db, me, pair)
        latest = older or await request.state.latests.of(pair, version)
        if older is None and read_seq < latest.last_seq:
            await conversations.mark_read(db, me.id, pair.id, latest.version)
            await db.commit()
        entries = await conversations.listed(db, me.id)
    return pages.render(
        "chat.html",
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


async def _where(db: AsyncSession, me: SignedIn, pair: Pair) -> tuple[int, int]:
    """The conversation's version, and how far this user has read."""
    query = (
        select(Conversation.version, Participant.read_seq)
        .join(Participant, Participant.conversation_id == Conversation.id)
        .where(Conversation.id == pair.id, Participant.user_id == me.id)
    )
    version, read_seq = (await db.execute(query)).one()
    return version, read_seq
