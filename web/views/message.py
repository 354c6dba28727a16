"""One message: a page with all that can be done to it, for browsers without scripts, and what is done."""

import logging
from collections.abc import Mapping
from functools import partial
from secrets import token_urlsafe

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from web import words
from web.accounts.sessions import SignedIn
from web.chat import edits, fragments, lists, reactions, reading, stored
from web.chat.changes import Alter, Change
from web.chat.conversations import Conversation, Message
from web.chat.refusals import Cause, Refused
from web.chat.stored import Place
from web.data import postgres
from web.site import Request, Site
from web.views import chat, pages

log = logging.getLogger(__name__)

ACTIONS = ("edit", "remove", "react")


async def make(site: Site, me: int, action: str, values: Mapping[str, str]) -> Change:
    """Change the message `seq` of the chat with `to`, as a frame or a form says. Raises Refused."""
    alter: Alter = edits.remove
    if action == "edit":
        alter = partial(edits.edit, body=values.get("body", ""), version=pages.bigint(values.get("version", "")))
    elif action == "react":
        alter = partial(reactions.react, emoji=values.get("emoji", ""))
    return await site.changes.make(me, values.get("to", ""), pages.bigint(values.get("seq", "")) or 0, alter)


async def mark_unread(site: Site, me: int, conversation: Conversation, seq: str) -> None:
    """Mark as unread what user `me` has read from the message `seq` on; nothing if that is no seq."""
    async with site.db.begin() as db:
        await reading.mark_unread(db, me, conversation.id, pages.bigint(seq) or 0)
    site.list_updates.changed(conversation.id, conversation.user_ids)


@pages.signed_in
async def unread(request: Request, me: SignedIn) -> Response:
    conversation = await pages.conversation_of(request, me)
    await mark_unread(request.state, me.id, conversation, request.path_params["seq"])
    return pages.see_other("/")


async def of_address(request: Request, me: SignedIn, conversation: Conversation) -> Message:
    """The message that the address names. Answers 404 if there is none for this reader."""
    place = Place(conversation.id, pages.bigint(request.path_params["seq"]) or 0)
    it = (await stored.at(request.state.reader, [place])).get(place)
    if it is None or (it.held and it.author_id != me.id):
        raise HTTPException(404, words.gettext("There is no such message in this chat."))
    return it


@pages.signed_in
async def show(request: Request, me: SignedIn) -> Response:
    return await _page(request, me)


async def edit(request: Request) -> Response:
    return await _alter(request, "edit")


async def remove(request: Request) -> Response:
    return await _alter(request, "remove")


async def react(request: Request) -> Response:
    return await _alter(request, "react")


async def _alter(request: Request, action: str) -> Response:
    sent = {name: str(value) for name, value in (await pages.form(request)).items()}
    try:
        me = await pages.who(request)
        if me is None:
            return chat.unsent(
                request, {"body": "", **sent}, words.gettext("Your session has ended. Log in, then try again."), 401
            )
        return await _altered(request, me, action, sent)
    except postgres.DATABASE_AWAY as error:
        log.warning("A change waits with its author: PostgreSQL is away (%s)", error)
        return chat.unsent(request, {"body": "", **sent}, str(pages.TRY_AGAIN_SOON))


async def _altered(request: Request, me: SignedIn, action: str, sent: Mapping[str, str]) -> Response:
    if not request.state.pace.allows(me.id):
        raise HTTPException(429, words.gettext("That was too much at once. Try again in a moment."))
    place = {"to": request.path_params["username"], "seq": request.path_params["seq"]}
    try:
        change = await make(request.state, me.id, action, {**sent, **place})
    except Refused as refused:
        if refused.cause in (Cause.NOBODY, Cause.NOTHING):
            raise HTTPException(404, str(refused)) from None
        if pages.is_htmx(request):
            return HTMLResponse(fragments.refusal("", str(refused), retry=False), 422)
        return await _page(request, me, str(refused), sent.get("body") if action == "edit" else None, 422)
    if pages.is_htmx(request):
        return HTMLResponse(change.swap)
    return pages.see_other(f"/chat/{change.conversation.name(me.id)}?around={place['seq']}")


async def _page(
    request: Request, me: SignedIn, said: str = "", body: str | None = None, status: int = 200
) -> HTMLResponse:
    """The message with its forms and its earlier texts; `body` is an edit that was refused."""
    conversation = await pages.conversation_of(request, me)
    it = await of_address(request, me, conversation)
    entries = await lists.listed(request.state.reader, me.id)
    here = await lists.entries(request.state.reader, [(conversation.id, me.id)])
    async with request.state.db() as db:
        earlier = await edits.earlier(db, conversation.id, it.seq)
    return await pages.show(
        request,
        me,
        "chat/message.html",
        status,
        name=conversation.name(me.id),
        title=conversation.title(me.id),
        message=it,
        html=fragments.with_mine(fragments.message(conversation, it), me.username),
        is_mine=it.author_id == me.id,
        earlier=earlier,
        is_starred=any(it.seq in (entry.starred or ()) for entry in here),
        entries=entries,
        chats=[entry for entry in entries if entry.conversation_id != conversation.id],
        emoji=reactions.QUICK,
        nonce=token_urlsafe(16),
        body=it.body if body is None else body,
        said=said,
    )
