"""The health and the metrics of the worker and of the bot, which have no pages, on a port of their own.

A thread answers, so it also answers while the event loop is stuck.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hmac import compare_digest
from http.server import ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

from prometheus_client import Gauge, MetricsHandler

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
    _Handler.token = settings.metrics_token
    _show_silence()
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Handler(MetricsHandler):
    timeout = 5
    token: ClassVar[str | None] = None

    def do_GET(self) -> None:  # noqa: N802
        given = self.headers.get("Authorization", "").encode()
        if self.path == "/readyz":
            status = 200 if _silence() < SILENT else 503
        elif self.path != "/metrics" or self.token is None:
            status = 404
        elif not compare_digest(given, f"Bearer {self.token}".encode()):
            status = 401
        else:
            super().do_GET()
            return
        self.send_response(status)
        self.end_headers()
