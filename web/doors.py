"""Checks and headers for every request and socket: its origin, its size, and what the browser may load.

Pure ASGI, since a BaseHTTPMiddleware never sees a WebSocket.
"""

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette_compress import CompressMiddleware

from web import assets, words
from web.log import new_request_id
from web.proxies import Proxies
from web.settings import Settings

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        f"style-src 'self' 'sha256-{assets.STYLE_HASH}'",
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
HSTS = (b"strict-transport-security", b"max-age=31536000")

MAX_BODY = 256 * 1024
"""Bytes of a form. More than a message may have: one that is too long must come back in its composer, not get lost."""


WRONG_SCHEME = (
    "This page was opened by https, but Knock was told nothing of it, so this was not done. "
    "Whoever runs the site sets SITE_URL to its https:// address, or FORWARDED_ALLOW_IPS to its proxy's."
)
FORM = "application/x-www-form-urlencoded"


class Doors:
    """Refuses what other sites' pages send, and adds the security headers to every answer.

    It stands before the whole app, so that the page of an unforeseen error has the headers too. It leaves the server's
    own `send` in a socket's scope: Starlette's wrapper costs a twentieth of sending to a crowd.
    """

    def __init__(self, app: ASGIApp, settings: Settings, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies
        self._headers = (*HEADERS, HSTS) if settings.is_https else HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        headers = Headers(scope=scope)
        given_id = self._proxies.look(scope, headers)
        words.speak(words.preferred(headers.get("accept-language", "")))
        if scope["type"] == "websocket":
            if _is_cross_site(scope, headers) or _has_impossible_address(scope):
                await send({"type": "websocket.close", "code": 4403})
            else:
                scope["send"] = send
                await self._app(scope, receive, send)
            return

        assets.remember_visit(headers)
        request_id = new_request_id(given_id).encode()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(b"x-request-id", request_id)]
                if not scope["path"].startswith("/static/"):
                    own.append((b"cache-control", b"no-store"))
                given = [name for name, _ in message["headers"]]
                own += [header for header in self._headers if header[0] not in given]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        refusal = _refusal(scope, headers)
        await (refusal or self._app)(scope, receive, send_with_headers)


def _refusal(scope: Scope, headers: Headers) -> Response | None:
    if _has_impossible_address(scope):
        return PlainTextResponse("The address contains a character that no address of this site has.", 400)
    if scope["method"] in SAFE_METHODS:
        return None
    if _is_cross_site(scope, headers):
        same_host = headers.get("origin", "").lower().endswith(f"://{headers.get('host', '')}".lower())
        return PlainTextResponse(
            WRONG_SCHEME if same_host else "This came from another site's page, so it was not done.", 403
        )
    if _is_too_long(headers):
        return PlainTextResponse("That is too much for one form.", 413)
    if _has_body(headers) and headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        return PlainTextResponse(f"A form is sent as {FORM}.", 415)
    return None


def _is_cross_site(scope: Scope, headers: Headers) -> bool:
    """Browsers name the origin in Sec-Fetch-Site, in Origin, or in both; programs send neither."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
    return origin is not None and origin.lower() != f"{scheme}://{headers.get('host', '')}".lower()


def _has_impossible_address(scope: Scope) -> bool:
    """PostgreSQL keeps no NUL, so nothing here has one in its address."""
    return "\0" in scope["path"] or b"%00" in scope["query_string"]


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _is_too_long(headers: Headers) -> bool:
    length = headers.get("content-length", "")
    if not length:
        return "chunked" in headers.get("transfer-encoding", "")
    return not length.isdigit() or len(length) > 9 or int(length) > MAX_BODY


OURS = ("same-origin", "none")
"""What Sec-Fetch-Site says of a request that no other site caused. Browsers leave it out where there is no https."""


class Compressed:
    """Compresses pages, but not for other sites.

    They could find out what stands on a page by what they put into its address and how long the answer gets (BREACH).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._plain = app
        self._compressed = CompressMiddleware(app, minimum_size=1000, zstd_level=1, brotli_quality=1, gzip_level=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_ours = scope["type"] == "http" and Headers(scope=scope).get("sec-fetch-site", "none") in OURS
        await (self._compressed if is_ours else self._plain)(scope, receive, send)
