"""The socket of a page: frames in, each with an `action`; frames that the hub publishes out."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import orjson
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from web.accounts.sessions import SignedIn
from web.chat import drafts, fragments, reading
from web.chat import keeping as stars
from web.chat.conversations import Conversation
from web.chat.refusals import Cause, Refused, too_fast
from web.chat.writer import Posted
from web.data import postgres
from web.live.socket import NOT_SIGNED_IN, TOO_FAST, Socket
from web.site import Site, WebSocket
from web.views import keeping, message, pages
from web.words import Sentence

Frame = Mapping[str, str]

UNREADABLE = Sentence("Knock could not read what this page sent. Reload the page and try again.")


class Connect:
    """The endpoint. A class: Starlette would wrap a function for each socket, which costs two KiB while it is open."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _connect(WebSocket(scope, receive, send))


async def _connect(websocket: WebSocket) -> None:
    me = await pages.who(websocket)
    if me is None:
        # Only an accepted socket can say why it is closed; otherwise the page would see 1006 and come again.
        await websocket.accept()
        await websocket.close(NOT_SIGNED_IN)
        return
    socket = Socket(websocket, websocket.scope["send"], me)
    try:
        async with websocket.state.hub.joined(socket):
            await websocket.accept()
            await _listen(websocket, socket)
    except (WebSocketDisconnect, asyncio.CancelledError):
        if not socket.closing and websocket.client_state.name == "CONNECTED":
            raise


async def _listen(websocket: WebSocket, socket: Socket) -> None:
    pace = websocket.state.pace
    while not socket.closing:
        event = await websocket.receive()
        if event["type"] == "websocket.disconnect":
            return
        socket.heard()
        # Before it is parsed, so that a frame counts whatever is in it.
        in_time = pace.allows(socket.me.id)
        if not in_time and pace.is_abused(socket.me.id):
            socket.close(TOO_FAST)
            return
        frame = _parse(event.get("text") or event.get("bytes") or b"")
        await _act(websocket.state, socket, frame, in_time=in_time)


def _parse(text: str | bytes) -> Frame:
    """The frame's strings; none of what is no frame."""
    try:
        values = orjson.loads(text)
    except ValueError:
        return {}
    return {key: value for key, value in values.items() if isinstance(value, str)} if isinstance(values, dict) else {}


async def _act(site: Site, socket: Socket, frame: Frame, *, in_time: bool) -> None:
    """`in_time`: within the user's pace."""
    action = frame.get("action")
    if action == "send":
        await _send(site, socket, frame, in_time=in_time)
    elif action in message.ACTIONS:
        await _alter(site, socket, frame, in_time=in_time)
    elif not in_time:
        return  # the page says how far it has read with the next message
    elif action not in ("view", "typing", "read", "unread", "star", "draft"):
        socket.push(fragments.refusal("", str(UNREADABLE), retry=False))
    elif action == "view":
        await site.hub.looked(socket, viewing=frame.get("visible") == "true")
    else:
        with suppress(*postgres.DATABASE_AWAY):
            conversation = await site.conversations.find(socket.me.id, frame.get("to", ""))
            if conversation is None or not conversation.id:
                return  # there is nothing to read, and strangers are not told of typing
            if action == "typing":
                _type(site, socket.me, conversation)
            elif action == "draft":
                await _draft(site, socket.me, conversation, frame)
            elif action == "star":
                await _star(site, socket, conversation, frame)
            elif action == "unread":
                await message.mark_unread(site, socket.me.id, conversation, frame.get("seq", ""))
            else:
                await _read(site, socket.me, conversation, frame)


async def _send(site: Site, socket: Socket, frame: Frame, *, in_time: bool) -> None:
    nonce = frame.get("nonce", "")
    try:
        if not in_time:
            raise too_fast()
        to, body, reply_to = (frame.get(name, "") for name in ("to", "body", "reply_to"))
        posted = await site.messages.post(socket.me.id, to, body, nonce, reply_to)
    except Refused as refused:
        socket.push(fragments.refusal(nonce, str(refused), refused.retry))
        return
    posted.add_done_callback(partial(_answer, socket, nonce))
    await site.messages.keep_up(posted)


def _answer(socket: Socket, nonce: str, written: asyncio.Future[Posted]) -> None:
    try:
        posted = written.result()
    except Refused as refused:
        socket.push(fragments.refusal(nonce, str(refused), refused.retry))
    else:
        if not posted.is_new:  # it was announced when it was new; this page waits for its answer
            socket.push(posted.swap)


async def _alter(site: Site, socket: Socket, frame: Frame, *, in_time: bool) -> None:
    try:
        if not in_time:
            raise Refused(Cause.PACE, Sentence("That was too much at once. Try again in a moment."))
        change = await message.make(site, socket.me.id, frame["action"], frame)
    except Refused as refused:
        socket.push(fragments.refusal("", str(refused), retry=False))
    except postgres.DATABASE_AWAY:
        socket.push(fragments.refusal("", str(pages.TRY_AGAIN_SOON), retry=False))
    else:
        if not change.is_new:  # nothing was announced; this page waits for its answer
            socket.push(change.swap)


async def _star(site: Site, socket: Socket, conversation: Conversation, frame: Frame) -> None:
    me, seq = socket.me.id, pages.bigint(frame.get("seq", "")) or 0
    try:
        await keeping.keep_one(site, me, conversation, lambda db, it: stars.star(db, me, it.id, seq))
    except Refused as refused:
        socket.push(fragments.refusal("", str(refused), retry=False))


def _type(site: Site, me: SignedIn, conversation: Conversation) -> None:
    if conversation.blocks or not site.typing_pace.allows((conversation.id, me.id)):
        return
    others = [person.id for person in conversation.others(me.id)]
    site.hub.publish(others, fragments.typing(conversation, me.id))


async def _draft(site: Site, me: SignedIn, conversation: Conversation, frame: Frame) -> None:
    """`base` is the draft that the page knew. If it is another one by now, the entry tells the page which."""
    await drafts.save(site.reader, me.id, conversation.id, frame.get("body", ""), frame.get("base", ""))
    site.list_updates.changed(conversation.id, [me.id])


async def _read(site: Site, me: SignedIn, conversation: Conversation, frame: Frame) -> None:
    """`version` is that of a page that shows the newest messages, `seq` the last one in view on any other page.

    `delivered` is the last one that the page has, whether anybody sees it or not.
    """
    for name, mark in (("version", reading.mark), ("seq", reading.mark_to), ("delivered", reading.deliver)):
        seen = pages.bigint(frame.get(name, ""))
        if seen is not None:
            site.list_updates.moved(await mark(site.reader, me.id, conversation.id, seen))
