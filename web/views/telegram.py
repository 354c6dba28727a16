"""Telegram in the settings: the link and its QR code, requests to answer, a test, and when to be told."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

import segno
from markupsafe import Markup
from sqlalchemy import update
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from web import cards, linking, notifications, telegram
from web.models import User
from web.sessions import SignedIn
from web.site import Request
from web.telegram import TelegramError
from web.views import pages

SAID = {
    "connected": "Telegram is connected.",
    "refused": "That request is refused.",
    "gone": "That request is no longer there. Ask again from Telegram.",
    "unlinked": "Telegram is disconnected.",
    "saved": "Saved.",
    "sent": "Telegram took the test message. Have a look at your phone.",
    "pause": "Telegram asks for a pause. Try again in a little while.",
    "closed": "Telegram refused the test message, and is disconnected.",
    "failed": "Telegram did not take the test message. Try again in a moment.",
}
"""What became of a form, by the word that the address says it with."""

_names = cache(telegram.Names)


async def telegram_section(request: Request, me: SignedIn) -> dict[str, Any]:
    """What `_telegram.html` shows; makes a link code where there is something to link."""
    name = await _names(request.state.settings).find()
    async with request.state.db() as db:
        user = await db.get_one(User, me.id)
        asking = await linking.requests(db, me.id)
        link = ""
        if name and user.telegram_chat_id is None:
            link = f"https://t.me/{name}?start={await linking.make_code(db, me.id)}"
            await db.commit()
    return {
        "telegram": {
            "is_on": request.state.settings.telegram_bot_token is not None,
            "user": user,
            "bot": name,
            "link": link,
            "qr": _qr(link) if link else "",
            "requests": asking,
            "said": SAID.get(request.query_params.get("telegram", ""), ""),
        }
    }


@pages.signed_in
async def section(request: Request, me: SignedIn) -> Response:
    """The section anew, once something changed since the page was shown: a link, or another number of requests."""
    async with request.state.db() as db:
        user = await db.get_one(User, me.id)
        asking = await linking.requests(db, me.id)
    if user.telegram_chat_id is None and len(asking) == (pages.number(request, "requests") or 0):
        return Response(status_code=204)
    return pages.render("_telegram.html", **await telegram_section(request, me))


@pages.signed_in
async def new_code(request: Request, me: SignedIn) -> Response:
    """The links shown so far work no longer; the page shows a new one."""
    async with request.state.db.begin() as db:
        await linking.drop_codes(db, me.id)
    return _back()


@pages.signed_in
async def unlink(request: Request, me: SignedIn) -> Response:
    async with request.state.db.begin() as db:
        await linking.unlink(db, me.id)
    return _back("unlinked")


@pages.signed_in
async def connect(request: Request, me: SignedIn) -> Response:
    async with request.state.db.begin() as db:
        done = await linking.confirm(db, me.id, _chat_id(request))
    return _back("connected" if done else "gone")


@pages.signed_in
async def refuse(request: Request, me: SignedIn) -> Response:
    async with request.state.db.begin() as db:
        await linking.refuse(db, me.id, _chat_id(request))
    return _back("refused")


@pages.signed_in
async def notify(request: Request, me: SignedIn) -> Response:
    """Whether to be told also while logged in, when no tab was live for two minutes."""
    form = await request.form()
    async with request.state.db.begin() as db:
        chosen = update(User).where(User.id == me.id).values(notify_when_away="when_away" in form)
        await db.execute(chosen)
    return _back("saved")


@pages.signed_in
async def test(request: Request, me: SignedIn) -> Response:
    """Send a message now, and say what Telegram said."""
    async with request.state.db() as db:
        user = await db.get_one(User, me.id)
    if user.telegram_chat_id is None or request.state.settings.telegram_bot_token is None:
        return _back()
    if user.telegram_not_before and user.telegram_not_before > datetime.now(UTC):
        return _back("pause")
    try:
        async with telegram.connect(request.state.settings) as bot:
            await telegram.send(bot, user.telegram_chat_id, cards.test(user.username))
    except TelegramError as error:
        return _back(await _refused(request, user.telegram_chat_id, error))
    return _back("sent")


async def _refused(request: Request, chat_id: int, error: TelegramError) -> str:
    async with request.state.db.begin() as db:
        if error.permanent:
            await linking.lose(db, chat_id, str(error))
            return "closed"
        if error.retry_after is not None:
            await notifications.hush(db, chat_id, error.retry_after)
            return "pause"
    return "failed"


def _back(said: str = "") -> Response:
    return pages.see_other(f"/settings?telegram={said}#telegram" if said else "/settings#telegram")


def _chat_id(request: Request) -> int:
    chat_id: int = request.path_params["chat_id"]
    if chat_id > pages.MAX_BIGINT:
        raise HTTPException(404)
    return chat_id


def _qr(link: str) -> Markup:
    """The link as an SVG without styles; dark on light whatever the page's colours, since some phones read no other."""
    code = segno.make(link, error="m", micro=False)
    # Drawn by segno out of an address that we made: nothing of it was written by a user.
    return Markup(code.svg_inline(scale=5, border=3, light="#fff", svgclass="qr", lineclass=None, title="QR code"))  # noqa: S704


routes = [
    Route("/settings/telegram", section),
    Route("/settings/telegram/code", new_code, methods=["POST"]),
    Route("/settings/telegram/unlink", unlink, methods=["POST"]),
    Route("/settings/telegram/test", test, methods=["POST"]),
    Route("/settings/telegram/requests/{chat_id:int}/connect", connect, methods=["POST"]),
    Route("/settings/telegram/requests/{chat_id:int}/refuse", refuse, methods=["POST"]),
    Route("/settings/notify", notify, methods=["POST"]),
]
