"""The socket of a page: frames in, each with an `action`; what the hub publishes, out."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import orjson
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from web import metrics
from web.accounts.sessions import SignedIn
from web.chat import conversations, fragments, messages
from web.chat.conversations import Pair
from web.chat.messages import Posted, Refused
from web.data import postgres
from web.live.socket import NOT_SIGNED_IN, Socket
from web.site import Site, WebSocket
from web.views import pages

Frame = Mapping[str, str]

UNREADABLE = "Knock could not read what this page sent. Reload the page and try again."
NOBODY = "Nobody here has that name, so there is no chat with them."
TOO_FAST = "That was too much at once; it is sent again in a moment."


class Pace:
    """A bucket of tokens: `rate` frames a second, and twice as many at once."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = 2 * rate
        self._at = time.monotonic()

    def allows(self) -> bool:
        if not self._rate:
            return True
        now = time.monotonic()
        self._tokens = min(2 * self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Connect:
    """The endpoint; a class, since Starlette would wrap a function for each socket, in two KiB that it keeps."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _connect(WebSocket(scope, receive, send))


async def _connect(websocket: WebSocket) -> None:
    me = await pages.who(websocket)
    if me is None:
        # Only an accepted socket can say why it is closed; before that the page would see 1006, and come again.
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
    site = websocket.state
    pace = Pace(site.settings.socket_rate)
    while not socket.closing:
        event = await websocket.receive()
        if event["type"] == "websocket.disconnect":
            return
        frame = _parse(event.get("text") or event.get("bytes") or b"")
        if frame is None:
            socket.push(fragments.refusal("", UNREADABLE, retry=False))
        elif pace.allows():
            await _act(site, socket, frame)
        elif frame["action"] == "send":
            metrics.REFUSED.labels("rate").inc()
            socket.push(fragments.refusal(frame.get("nonce", ""), TOO_FAST, retry=True))


def _parse(text: str | bytes) -> Frame | None:
    """The frame's strings; None for what is no frame."""
    try:
        values = orjson.loads(text)
    except ValueError:
        return None
    if not isinstance(values, dict) or not isinstance(values.get("action"), str):
        return None
    return {key: value for key, value in values.items() if isinstance(value, str)}


async def _act(site: Site, socket: Socket, frame: Frame) -> None:
    action = frame["action"]
    if action == "send":
        await _send(site, socket, frame)
    elif action == "view":
        await site.hub.looked(socket, viewing=frame.get("visible") == "true")
    elif action in ("typing", "read"):
        try:
            pair = await site.pairs.find(socket.me.id, frame.get("to", ""))
            if pair is not None and action == "typing":
                site.hub.publish([pair.other(socket.me.id).id], fragments.typing(pair, socket.me.id))
            elif pair is not None:
                await _read(site, socket.me, pair, frame.get("version", ""))
        except postgres.UNAVAILABLE:
            return  # the page says how far it has read again, with the next message or the next visit
    else:
        socket.push(fragments.refusal("", UNREADABLE, retry=False))


async def _send(site: Site, socket: Socket, frame: Frame) -> None:
    me, nonce = socket.me, frame.get("nonce", "")
    try:
        body = messages.check(frame.get("body", ""), nonce)
        try:
            pair = await site.pairs.find(me.id, frame.get("to", ""))
        except postgres.UNAVAILABLE:
            raise Refused(pages.UNAVAILABLE, retry=True, cause="database") from None
        if pair is None:
            raise Refused(NOBODY, cause="nobody")
        writing = site.writer.write(pair, me.id, body, nonce)
    except Refused as refused:
        socket.push(fragments.refusal(nonce, str(refused), refused.retry))
        return
    writing.add_done_callback(partial(_answer, socket, nonce))
    # The page is read on meanwhile, unless that would only make the queue longer.
    if site.writer.is_behind:
        with suppress(Refused):
            await writing


def _answer(socket: Socket, nonce: str, written: asyncio.Future[Posted]) -> None:
    if written.cancelled():  # the page has gone
        return
    try:
        posted = written.result()
    except Refused as refused:
        socket.push(fragments.refusal(nonce, str(refused), refused.retry))
    else:
        if not posted.is_new:  # it was announced when it was new; this page waits for its answer
            socket.push(posted.swap)


async def _read(site: Site, me: SignedIn, pair: Pair, version: str) -> None:
    if not (version.isascii() and version.isdigit() and int(version) <= pages.MAX_BIGINT):
        return
    if await conversations.mark_read(site.reader, me.id, pair.id, int(version)):
        site.chat_lists.changed(pair.id, me.id)
