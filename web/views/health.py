"""For operators: is the site alive, can it serve, and what has it been doing."""

from contextlib import suppress
from hmac import compare_digest

from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import text
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from web import metrics
from web.data import postgres
from web.notifications import outbox
from web.site import Request


async def livez(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    """200 while the site can serve. It can without Redis, only slower, so that is reported but changes no status."""
    try:
        async with request.state.db() as db:
            await db.execute(text("SELECT 1"))
        postgresql = "ok"
    except postgres.DATABASE_AWAY:
        postgresql = "away"
    redis = "ok" if await request.state.store.attempt(request.state.store.client.ping()) else "away"
    return JSONResponse({"postgresql": postgresql, "redis": redis}, 200 if postgresql == "ok" else 503)


async def prometheus(request: Request) -> Response:
    """For whoever has METRICS_TOKEN."""
    token = request.state.settings.metrics_token
    if token is None:
        raise HTTPException(404, "METRICS_TOKEN is not set, so nobody is shown the metrics.")
    if not compare_digest(request.headers.get("authorization", "").encode(), f"Bearer {token}".encode()):
        raise HTTPException(401, "The metrics need their token.", {"WWW-Authenticate": "Bearer"})
    with suppress(*postgres.DATABASE_AWAY):
        async with request.state.db() as db:
            metrics.OUTBOX_AGE.set(await outbox.age(db))
    return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)
