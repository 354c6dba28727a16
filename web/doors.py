"""Checks and headers for every request and socket: its origin, its size, and what the browser may load.

Pure ASGI, since a BaseHTTPMiddleware never sees a WebSocket.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "object-src 'none'",
    )
)
HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)

MAX_BODY = 256 * 1024
"""Bytes of a form. More than a message may have: one that is too long must come back in its composer, not get lost."""


class Doors:
    """Refuses what other sites' pages send, and adds the security headers to every answer.

    It leaves the server's own `send` in a socket's scope: Starlette's wrapper costs a twentieth of sending to a crowd.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        headers = Headers(scope=scope)
        if scope["type"] == "websocket":
            if _is_foreign(headers):
                await send({"type": "websocket.close", "code": 4403})
            else:
                scope["send"] = send
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS, (b"cache-control", _cache_control(scope))]
            await send(message)

        if scope["method"] not in SAFE_METHODS:
            if _is_cross_site(headers):
                answer = PlainTextResponse("This came from another site's page, so it was not done.", 403)
                await answer(scope, receive, send_with_headers)
                return
            if _is_too_long(headers):
                answer = PlainTextResponse("That is too much for one form.", 413)
                await answer(scope, receive, send_with_headers)
                return
        await self._app(scope, receive, send_with_headers)


def _cache_control(scope: Scope) -> bytes:
    """Pages are private; a file whose URL contains its digest never changes."""
    if not scope["path"].startswith("/static/"):
        return b"no-store"
    return b"public, max-age=31536000, immutable" if scope["query_string"].startswith(b"v=") else b"no-cache"


def _is_cross_site(headers: Headers) -> bool:
    """Browsers name the origin in Sec-Fetch-Site, older ones in Origin; programs send neither."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    return _is_foreign(headers)


def _is_foreign(headers: Headers) -> bool:
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def _is_too_long(headers: Headers) -> bool:
    length = headers.get("content-length", "")
    return (
        not length.isdigit() or int(length) > MAX_BODY if length else "chunked" in headers.get("transfer-encoding", "")
    )
