"""An HTTP connection that has to ask within limits, so that silent, slow or huge ones cannot shut others out."""

import asyncio
import logging
import resource
import time
from collections import Counter
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from web import metrics
from web.proxies import address_of, neighbourhood_of
from web.settings import Settings

log = logging.getLogger(__name__)

HEAD_BYTES = 16 * 1024
"""Of a request's address and headers together."""
REQUEST_SECONDS = 15.0
"""Until a request is complete, from its connection or its first byte on."""
OPEN_AT_ONCE = 200
"""Connections that one address, or IPv6 network of 64 bits, may have open in this process, apart from WebSockets.

A browser opens six.
"""
SAY_EVERY = 60.0
"""Seconds between two lines in the log about an address that has too many."""

FEW_FILES = 4096
"""A lower limit of open files is worth a line in the log."""

HEAD_TOO_LONG = b"The address and the headers of a request have 16 KiB at most. Deleting this site's cookies may help."


class HeadTooLong(Exception):
    """A request's address and headers have more than HEAD_BYTES."""


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with a deadline for each request and bounds for its head and for its address."""

    settings: Settings
    """Set once, before the process serves."""
    _open: ClassVar[Counter[str]] = Counter()
    _said_at: ClassVar[float] = float("-inf")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes: int | None = 0
        self._fields_bytes = 0
        self._head_is_too_long = False
        self._address = (address_of(self.client[0]) if self.client else None) or ""
        self._neighbourhood = neighbourhood_of(self._address)
        self._open[self._neighbourhood] += 1
        self._expect_request()
        if self._open[self._neighbourhood] > OPEN_AT_ONCE and self._is_bounded():
            self._turn_away()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_request()
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._expect_request()
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        # Once a head is complete, on_headers_complete has measured it; what came with it may belong to the body.
        if self._head_bytes is not None and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self._refuse_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = self._head_bytes or 0
        self._fields_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        # Also those that follow a body in chunks.
        self._fields_bytes += len(name) + len(value) + 4
        self._measure_head()
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        self._measure_head()
        super().on_headers_complete()

    def _measure_head(self) -> None:
        if len(self.url) + self._fields_bytes > HEAD_BYTES:
            self._head_is_too_long = True
            raise HeadTooLong  # the parser stops, and data_received answers with send_400_response

    def on_message_complete(self) -> None:
        self._has_request()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._has_request()
        self._leave()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        if self._head_is_too_long:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def _refuse_head(self) -> None:
        length = str(len(HEAD_TOO_LONG)).encode()
        head = (
            b"content-type: text/plain; charset=utf-8\r\ncontent-length: " + length + b"\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[431] + head + HEAD_TOO_LONG)
        self.transport.close()

    def _expect_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _has_request(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_bounded(self) -> bool:
        """A trusted proxy brings everybody's connections, and with LIMITS=off nobody's are bounded."""
        return self.settings.limits and not self.settings.trusts(self._address)

    def _turn_away(self) -> None:
        metrics.TURNED_AWAY.inc()
        if time.monotonic() > Connection._said_at + SAY_EVERY:
            Connection._said_at = time.monotonic()
            log.warning(
                "%s has %d connections open, so its next ones are closed. If that is your proxy, name it in "
                "FORWARDED_ALLOW_IPS",
                self._address,
                OPEN_AT_ONCE,
            )
        self.transport.abort()

    def _leave(self) -> None:
        """Count it no longer: it has ended, or has become a WebSocket."""
        self._open[self._neighbourhood] -= 1
        if not self._open[self._neighbourhood]:
            del self._open[self._neighbourhood]


class WebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, that survives a frame that is not UTF-8 and arrives together with the peer's farewell."""

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except InvalidState:  # the answer to the frame would follow that to the farewell
            self.transport.close()


def allow_many_files() -> None:
    """Raise the soft limit of open files, which each connection is one of, to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS calls it unlimited, and then refuses it
        log.warning("The limit of open files stays at %d", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    metrics.FILES.set(limit)
    if limit < FEW_FILES:
        log.warning("This process may open %d files only, so about %d people. Raise `ulimit -n`", limit, limit - 30)
