"""The health and the metrics of the worker and of the bot, which have no pages, on a port of their own.

A thread answers, so it also answers while the event loop is stuck.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

from web.server import CannotStart
from web.settings import Settings

SILENT = 60.0
"""Seconds without a beat after which a process is not well. A poll for updates may take half of it."""

_beat_at = time.monotonic()


def beat() -> None:
    """What the process is there for has just worked."""
    global _beat_at
    _beat_at = time.monotonic()


def _silence() -> float:
    return time.monotonic() - _beat_at


@cache
def _show_silence() -> None:
    """Not when this is imported: web processes, which share their figures, do that too."""
    silence = Gauge("knock_silence_seconds", "Since the worker last swept, or the bot last heard from Telegram")
    silence.set_function(_silence)


@contextmanager
def serving(settings: Settings, offset: int = 0) -> Iterator[None]:
    """Answers on METRICS_PORT + `offset`, if that is set. Raises CannotStart."""
    if settings.metrics_port is None:
        yield
        return
    port = settings.metrics_port + offset
    try:
        server = ThreadingHTTPServer((settings.host, port), _Handler)
    except OSError as error:
        raise CannotStart(f"cannot serve metrics on {settings.host} port {port}: {error.strerror}.") from None
    server.settings = settings  # type: ignore[attr-defined]
    _show_silence()
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    timeout = 5

    def do_GET(self) -> None:
        settings: Settings = self.server.settings  # type: ignore[attr-defined]
        given = self.headers.get("Authorization", "").encode()
        if self.path == "/readyz":
            silence = _silence()
            self._answer(200 if silence < SILENT else 503, f"{silence:.0f} seconds ago\n".encode())
        elif self.path != "/metrics" or settings.metrics_token is None:
            self._answer(404)
        elif compare_digest(given, f"Bearer {settings.metrics_token}".encode()):
            self._answer(200, generate_latest(), CONTENT_TYPE_LATEST)
        else:
            self._answer(401)

    def _answer(self, status: int, body: bytes = b"", content_type: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """An entry for every check would hide those that matter."""
