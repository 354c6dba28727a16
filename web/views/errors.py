"""The pages that say what went wrong."""

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from web import words
from web.accounts import users
from web.data import postgres
from web.site import Request
from web.views.pages import BUSY, RETRY_AFTER, TRY_AGAIN_SOON, render, see_other

log = logging.getLogger(__name__)


def _page_of(action: str) -> str:
    """The page whose form goes to this address, which a reload or the history may open."""
    first, *more = action.strip("/").split("/")
    if first == "chat" and more:
        return f"/chat/{more[0]}"
    return "/" if first == "logout" else f"/{first}"


async def on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405 and request.method == "GET":
        return see_other(_page_of(request.url.path))
    said = error.detail
    if error.status_code == 404 and said == "Not Found":
        said = words.gettext("There is nothing at this address.")
    page = render("error.html", error.status_code, status=error.status_code, said=said)
    page.headers.update(error.headers or {})
    return page


async def on_unavailable(request: Request, error: Exception) -> Response:
    log.warning("%s %s cannot be answered: PostgreSQL is away (%s)", request.method, request.url.path, error)
    page = render("error.html", 503, status=503, said=TRY_AGAIN_SOON)
    page.headers["Retry-After"] = RETRY_AFTER
    return page


async def on_busy(_request: Request, _error: Exception) -> Response:
    page = render("error.html", 503, status=503, said=BUSY)
    page.headers["Retry-After"] = RETRY_AFTER
    return page


async def on_client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def on_error(_request: Request, _error: Exception) -> Response:
    return render(
        "error.html", 500, status=500, said=words.gettext("Something went wrong on our side. It has been noted.")
    )


HANDLERS: dict[Any, Any] = {
    HTTPException: on_http_error,
    **dict.fromkeys(postgres.DATABASE_AWAY, on_unavailable),
    ClientDisconnect: on_client_gone,
    users.Busy: on_busy,
    Exception: on_error,
}
