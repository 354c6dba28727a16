"""The static files: read and compressed once, then served from memory."""

import asyncio
import base64
import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import NamedTuple

import brotli  # type: ignore[import-untyped]
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

ROOT = Path(__file__).parent.parent
STATIC = ROOT / "static"
MODULES = ROOT / "node_modules"
HTMX = MODULES / "htmx.org" / "dist"
EMOJI = MODULES / "emoji-picker-element"
LIVE = ("app", "actions", "emoji", "panes", "log", "drafts", "keys", "notices")
"""The scripts of a signed-in page. They come before htmx, so that they hear every event of it."""
LATER = "emoji/"
"""The beginning of files that are compressed when they are first asked for: a third of a second for all of them."""
# Spelt in one way only, so that nobody fills the memory with others.
FILES = (
    {file.name: [file] for file in STATIC.iterdir() if file.suffix in (".js", ".css", ".svg", ".png", ".webmanifest")}
    # One file, since each more costs a slow line as much as a kilobyte. htmx would start before its extensions are
    # loaded, if it did not end with them.
    | {
        "live.js": [STATIC / f"{name}.js" for name in LIVE]
        + [HTMX / name for name in ("htmx.min.js", "ext/hx-ws.min.js", "ext/hx-upsert.min.js")]
    }
    | {f"{LATER}{name}": [EMOJI / name] for name in ("index.js", "picker.js", "database.js")}
    | {
        f"{LATER}ru_RU.js": [EMOJI / "i18n" / "ru_RU.js"],
        f"{LATER}en.json": [MODULES / "emoji-picker-element-data" / "en" / "emojibase" / "data.json"],
        f"{LATER}ru.json": [MODULES / "emoji-picker-element-data" / "ru" / "emojibase" / "data.json"],
    }
)
STYLE = (STATIC / "app.css").read_text()
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_is_first_visit = ContextVar("is_first_visit", default=False)

WORKER = "/static/worker.js"
"""The service worker. It shows notices of the whole site, not only of what is below /static."""


class Asset(NamedTuple):
    digest: str
    kind: str
    bodies: dict[str, bytes]
    """By content encoding."""


@cache
def find(path: str) -> Asset:
    """The file at this path below /static. Raises KeyError."""
    plain = b"\n;\n".join(file.read_bytes() for file in FILES[path])
    bodies = {"br": brotli.compress(plain, quality=9), "gzip": gzip.compress(plain), "": plain}
    return Asset(hashlib.sha256(plain).hexdigest()[:12], mimetypes.guess_type(path)[0] or "", bodies)


def url(path: str) -> str:
    """The URL of a static file. It contains a digest of the file, so browsers may keep it for ever."""
    return f"/static/{path}?v={find(path).digest}"


def remember_visit(headers: Mapping[str, str]) -> None:
    """Remember for this request whether a browser opens its first page here. Scripts set the cookie."""
    _is_first_visit.set(headers.get("sec-fetch-dest") == "document" and "scripts=" not in headers.get("cookie", ""))


def style() -> Markup:
    """The element with the stylesheet: on a browser's first page with all of it, which saves a round trip."""
    if _is_first_visit.get():
        return Markup("<style>{}</style>").format(Markup(STYLE))  # noqa: S704 - ours
    return Markup('<link rel="stylesheet" href="{}">').format(url("app.css"))


async def serve(request: Request) -> Response:
    """The view of everything below /static."""
    try:
        path = request.path_params["path"]
        asset = await asyncio.to_thread(find, path) if path.startswith(LATER) else find(path)
    except KeyError:
        raise HTTPException(404) from None
    is_kept = request.query_params.get("v") == asset.digest
    encoding = next(each for each in asset.bodies if each in request.headers.get("accept-encoding", ""))
    headers = {
        "ETag": f'"{asset.digest}"',
        "Vary": "Accept-Encoding",
        "Cache-Control": "public, max-age=31536000, immutable" if is_kept else "no-cache",
    }
    if asset.digest in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if request.url.path == WORKER:
        headers["Service-Worker-Allowed"] = "/"
    if encoding:
        headers["Content-Encoding"] = encoding
    return Response(asset.bodies[encoding], headers=headers, media_type=asset.kind)
