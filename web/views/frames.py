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
from web.chat.conversations import Conversation
from web.chat.refusals import Refused, too_fast
from web.chat.writer import Posted
from web.data import postgres
from web.live.socket import NOT_SIGNED_IN, TOO_FAST, Socket
from web.site import Site, WebSocket
from web.views import pages

Frame = Mapping[str, str]

UNREADABLE = "Knock could not read what this page sent. Reload the page and try again."


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
    elif not in_time:
        return  # the page says how far it has read with the next message
    elif action not in ("view", "typing", "read", "draft"):
        socket.push(fragments.refusal("", UNREADABLE, retry=False))
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
            else:
                await _read(site, socket.me, conversation, frame)


async def _send(site: Site, socket: Socket, frame: Frame, *, in_time: bool) -> None:
    nonce = frame.get("nonce", "")
    try:
        if not in_time:
            raise too_fast()
        posted = await site.messages.post(socket.me.id, frame.get("to", ""), frame.get("body", ""), nonce)
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
    """`version` is that of a page that shows the newest messages, `seq` the last one in view on any other page."""
    for name, mark in (("version", reading.mark), ("seq", reading.mark_to)):
        seen = pages.bigint(frame.get(name, ""))
        if seen is not None and await mark(site.reader, me.id, conversation.id, seen):
            site.list_updates.changed(conversation.id, [me.id])
