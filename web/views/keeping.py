"""What one keeps, or keeps away, each for oneself: pinned, muted and hidden chats, blocks, stars, and forwarding."""

from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from web import words
from web.accounts.sessions import SignedIn
from web.chat import blocks, conversations, fragments, keeping, lists
from web.chat.conversations import Conversation
from web.chat.refusals import Cause, Refused
from web.site import Request, Site
from web.views import message, pages

Keep = Callable[[AsyncSession, Conversation], Awaitable[None]]


@pages.signed_in
async def hide(request: Request, me: SignedIn) -> Response:
    """Take the chat out of one's own list, until somebody writes in it."""
    conversation = await pages.conversation_of(request, me)
    await lists.hide(request.state.reader, me.id, conversation.id)
    request.state.hub.publish([me.id], fragments.gone_swap(conversation))
    return pages.see_other("/")


@pages.signed_in
async def pin(request: Request, me: SignedIn) -> Response:
    """The form's `pinned` says whether."""
    pinned = bool((await pages.form(request)).get("pinned"))
    conversation = await _kept(request, me, lambda db, it: keeping.pin(db, me.id, it.id, pinned=pinned))
    return pages.see_other(f"/chat/{conversation.name(me.id)}")


@pages.signed_in
async def mute(request: Request, me: SignedIn) -> Response:
    """The form's `time` is one of keeping.TIMES; without it the chat is muted no longer."""
    time = str((await pages.form(request)).get("time", ""))
    conversation = await _kept(request, me, lambda db, it: keeping.mute(db, me.id, it.id, time))
    return pages.see_other(f"/chat/{conversation.name(me.id)}")


@pages.signed_in
async def block(request: Request, me: SignedIn) -> Response:
    answer, conversation = await _blocked(request, me, lambda db, it: blocks.block(db, it, me.id))
    request.state.presence_updates.part(conversation.people)
    return answer


@pages.signed_in
async def unblock(request: Request, me: SignedIn) -> Response:
    answer, _ = await _blocked(request, me, lambda db, it: blocks.unblock(db, it, me.id))
    return answer


async def _blocked(request: Request, me: SignedIn, keep: Keep) -> tuple[Response, Conversation]:
    """The form `back` leads to another page than the chat afterwards."""
    conversation = await _kept(request, me, keep)
    request.state.hub.notify(conversations.PEOPLE_CHANGED, [me.id])
    back = str((await pages.form(request)).get("back", ""))
    path = pages.local_path(back) if back else f"/chat/{conversation.name(me.id)}"
    return pages.see_other(path), conversation


@pages.signed_in
async def star(request: Request, me: SignedIn) -> Response:
    seq = request.path_params["seq"]
    conversation = await _kept(request, me, lambda db, it: keeping.star(db, me.id, it.id, pages.bigint(seq) or 0))
    return pages.see_other(f"/chat/{conversation.name(me.id)}?around={seq}")


async def _kept(request: Request, me: SignedIn, keep: Keep) -> Conversation:
    """The chat, once that is done and shown in one's list. Answers 404 or 422 to what is refused."""
    if not request.state.pace.allows(me.id):
        raise HTTPException(429, words.gettext("That was too much at once. Try again in a moment."))
    conversation = await pages.conversation_of(request, me)
    try:
        await keep_one(request.state, me.id, conversation, keep)
    except Refused as refused:
        raise HTTPException(404 if refused.cause is Cause.NOTHING else 422, str(refused)) from None
    return conversation


async def keep_one(site: Site, me: int, conversation: Conversation, keep: Keep) -> None:
    """Do that in a transaction, and show it in the list of user `me`. Raises Refused."""
    async with site.db.begin() as db:
        await keep(db, conversation)
    site.list_updates.changed(conversation.id, [me])


@pages.signed_in
async def starred(request: Request, me: SignedIn) -> Response:
    async with request.state.db() as db:
        found = await keeping.starred(db, me.id)
    return await pages.show(request, me, "chat/starred.html", starred=found)


@pages.signed_in
async def forward(request: Request, me: SignedIn) -> Response:
    """Open the chat with `to` (a username) with the message in its composer, as a quote."""
    it = await message.of_address(request, me, await pages.conversation_of(request, me))
    if it.removed_at:
        raise HTTPException(422, words.gettext("This message was removed."))
    other = await request.state.conversations.find(me.id, str((await pages.form(request)).get("to", "")))
    if other is None or not other.id:
        raise HTTPException(422, words.gettext("You have no chat with anybody of that name."))
    await keep_one(request.state, me.id, other, lambda db, chat: keeping.forward(db, me.id, it.body, chat.id))
    return pages.see_other(f"/chat/{other.name(me.id)}?end=1")


routes = [
    Route("/starred", starred),
    Route("/chat/{username}/messages/{seq}/star", star, methods=["POST"]),
    Route("/chat/{username}/messages/{seq}/forward", forward, methods=["POST"]),
    Route("/chat/{username}/pin", pin, methods=["POST"]),
    Route("/chat/{username}/mute", mute, methods=["POST"]),
    Route("/chat/{username}/hide", hide, methods=["POST"]),
    Route("/chat/{username}/block", block, methods=["POST"]),
    Route("/chat/{username}/unblock", unblock, methods=["POST"]),
]
