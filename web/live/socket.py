"""One open WebSocket, as the hub sees it."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Generator
from sys import getsizeof
from types import coroutine
from typing import Any

from starlette.types import Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from web import metrics
from web.accounts.sessions import SignedIn

NOT_SIGNED_IN = 4401
"""No session, or it has ended: the page does not reconnect."""
RESTART = 1012
"""The page reconnects at once, and catches up."""
CROWDED = 4408
"""The user opened too many others: the page does not reconnect."""
TOO_FAST = 4429
"""The page went on sending more than it may: it does not reconnect."""
OVERLOAD = 1013
"""The page did not read what it was sent: it reconnects later, and catches up."""

BOUND = 256
"""Frames that wait for one socket at most."""
BOUND_BYTES = 1024 * 1024
"""What these frames take in memory, at most."""

CLOSING_TIME = 1.0
"""Seconds for a peer to take the close frame."""


class Socket:
    """Sends to one page: frames go out in order, and one slow reader holds up nobody else.

    Made by the view, in the task that reads from the page.
    """

    def __init__(self, websocket: WebSocket[Any], send: Send, me: SignedIn) -> None:
        """`send` is the server's own."""
        self.me = me
        self.viewing = False
        """Whether the page said that somebody looks at it."""
        self._websocket = websocket
        self._send_event = send
        self._reader = asyncio.current_task()
        self._loop = asyncio.get_running_loop()  # asking for it costs a system call
        self.heard_at = self._loop.time()
        """When the page last sent something."""
        self._frames: deque[str] = deque()
        self._bytes = 0
        self._sender: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None

    @property
    def closing(self) -> bool:
        return self._closer is not None

    def heard(self) -> None:
        """The page sent something."""
        self.heard_at = self._loop.time()

    def push(self, frame: str) -> None:
        """Send a frame, after those that wait; returns at once."""
        if self.closing:
            return
        if self._sender is not None:
            self._wait(frame)
            return
        # Started without a task, since the kernel nearly always takes it at once.
        rest = self._send_event({"type": "websocket.send", "text": frame}).__await__()
        try:
            waits_for = next(rest)
        except StopIteration:
            return
        except (OSError, RuntimeError):
            return  # gone; the task that reads notices and leaves the hub
        self._sender = self._loop.create_task(self._send(_continued(waits_for, rest)))

    def close(self, code: int) -> None:
        """End the socket; returns at once. Frames that wait are not sent: the page catches up when it is back."""
        if not self.closing:
            metrics.CUT.labels(code).inc()
            self._closer = self._loop.create_task(self._close(code))

    def _wait(self, frame: str) -> None:
        self._bytes += getsizeof(frame)
        if len(self._frames) >= BOUND or self._bytes > BOUND_BYTES:
            self._frames.clear()
            self.close(OVERLOAD)
        else:
            self._frames.append(frame)

    async def _send(self, started: Awaitable[None]) -> None:
        try:
            await started
            while self._frames and not self.closing:
                frame = self._frames.popleft()
                self._bytes -= getsizeof(frame)
                await self._send_event({"type": "websocket.send", "text": frame})
        except (OSError, RuntimeError):
            self._frames.clear()
        self._sender = None

    async def _close(self, code: int) -> None:
        if self._sender is not None:
            self._sender.cancel()
        try:
            async with asyncio.timeout(CLOSING_TIME):
                if self._websocket.application_state is WebSocketState.CONNECTED:
                    await self._websocket.close(code)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            if self._reader is not None:
                self._reader.cancel()  # the peer takes nothing, so its read would never end either


@coroutine
def _continued(waits_for: Any, rest: Generator[Any, Any, None]) -> Generator[Any, Any, None]:
    """The rest of an awaitable that was started, and had to wait."""
    yield waits_for
    yield from rest
