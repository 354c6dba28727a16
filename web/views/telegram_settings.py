"""Telegram in the settings: the link and its QR code, requests to confirm, a test, and when to be notified."""

import asyncio
from secrets import token_hex
from typing import Any

from dramatiq.errors import DramatiqError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import update
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from web import tasks
from web.accounts import confirmation
from web.accounts.forms import PasswordAgain
from web.accounts.sessions import SignedIn
from web.data.models import User
from web.site import Request
from web.telegram import bot_name, linking
from web.views import pages
from web.words import Sentence

CONFIRM = "/settings/confirm"
"""Where a session goes that has to type its password again."""
TEST_SECONDS = 30
"""Between two test messages of a user. While Redis is away, none is sent at all."""
NOTICES = {
    "connected": Sentence("Telegram is connected."),
    "refused": Sentence("That request is refused."),
    "gone": Sentence("That request is no longer there. Ask again from Telegram."),
    "unlinked": Sentence("Telegram is disconnected."),
    "sent": Sentence("Telegram took the test message. Have a look at your phone."),
    "soon": Sentence("You can send one test message in half a minute."),
    "pause": Sentence("Telegram asks for a pause. Try again in a little while."),
    "closed": Sentence("Telegram refused the test message, and is disconnected."),
    "unheard": Sentence("The worker, which sends messages, did not answer. Try again in a moment."),
    "failed": Sentence("Telegram did not take the test message. Try again in a moment."),
}
"""What the page says after a form, by the word in its address."""


async def telegram_section(request: Request, me: SignedIn) -> dict[str, Any]:
    """What `telegram/_section.html` shows. Makes a link code if the user is not linked, and may be."""
    token = request.state.settings.telegram_bot_token
    name = await bot_name.find(request.state.store, token) if token else None
    async with request.state.db() as db:
        user = await db.get_one(User, me.id)
        requests = await linking.requests(db, me.id)
        is_confirmed = await confirmation.is_fresh(db, me)
        link = ""
        if name and is_confirmed and user.telegram_chat_id is None:
            link = f"https://t.me/{name}?start={await linking.make_code(db, me.id, me.session_id)}"
            await db.commit()
    return {
        "telegram": {
            "password": None if is_confirmed else PasswordAgain(),
            "is_on": token is not None,
            "user": user,
            "bot": name,
            "link": link,
            "qr": pages.qr(link) if link else "",
            "requests": requests,
            "notice": NOTICES.get(request.query_params.get("telegram", ""), ""),
        }
    }


@pages.signed_in
async def section(request: Request, me: SignedIn) -> Response:
    """The section again, if the user was linked or the number of requests changed since the page was shown."""
    async with request.state.db() as db:
        user = await db.get_one(User, me.id)
        requests = await linking.requests(db, me.id)
    if user.telegram_chat_id is None and len(requests) == (pages.number(request, "requests") or 0):
        return Response(status_code=204)
    return pages.render("telegram/_section.html", me=me, **await telegram_section(request, me))


@pages.signed_in
async def new_code(request: Request, me: SignedIn) -> Response:
    """Invalidate the links shown so far; the page shows a new one."""
    async with request.state.db.begin() as db:
        await linking.drop_codes(db, me.id)
    return _back()


@pages.signed_in
async def unlink(request: Request, me: SignedIn) -> Response:
    async with request.state.db.begin() as db:
        if not await confirmation.is_fresh(db, me):
            return pages.see_other(CONFIRM)
        await linking.unlink(db, me.id)
    return _back("unlinked")


@pages.signed_in
async def connect(request: Request, me: SignedIn) -> Response:
    async with request.state.db.begin() as db:
        if not await confirmation.is_fresh(db, me):
            return pages.see_other(CONFIRM)
        done = await linking.confirm(db, me.id, _chat_id(request))
    return _back("connected" if done else "gone")


@pages.signed_in
async def refuse(request: Request, me: SignedIn) -> Response:
    async with request.state.db.begin() as db:
        await linking.refuse(db, me.id, _chat_id(request))
    return _back("refused")


@pages.signed_in
async def notify(request: Request, me: SignedIn) -> Response:
    """Whether to be notified while logged in too, once no tab has been live for two minutes."""
    form = await pages.form(request)
    async with request.state.db.begin() as db:
        chosen = update(User).where(User.id == me.id).values(notify_when_away="when_away" in form)
        await db.execute(chosen)
    return pages.see_other("/settings?done=saved")


@pages.signed_in
async def test(request: Request, me: SignedIn) -> Response:
    """Let the worker send a test message now, and wait for the outcome."""
    if await request.state.store.attempt(_is_soon(request.state.store.client, me.id)):
        return _back("soon")
    key = f"telegram-test:{token_hex(16)}"
    try:
        await asyncio.to_thread(tasks.send_test.send, me.id, key)
    except (RedisError, DramatiqError, OSError):
        return _back("unheard")
    for _ in range(tasks.TEST_MS // 250):
        await asyncio.sleep(0.25)
        if outcome := await request.state.store.attempt(request.state.store.client.get(key)):
            return _back(str(outcome))
    return _back("unheard")


async def _is_soon(redis: Redis, user_id: int) -> bool:
    """Whether the user sent a test message within the last 30 seconds. If not, this one counts."""
    return not await redis.set(f"telegram-tested:{user_id}", "", ex=TEST_SECONDS, nx=True)


def _back(outcome: str = "") -> Response:
    return pages.see_other(f"/settings?telegram={outcome}#telegram" if outcome else "/settings#telegram")


def _chat_id(request: Request) -> int:
    chat_id = pages.bigint(request.path_params["chat_id"])
    if chat_id is None:
        raise HTTPException(404)
    return chat_id


routes = [
    Route("/settings/telegram", section),
    Route("/settings/telegram/code", new_code, methods=["POST"]),
    Route("/settings/telegram/unlink", unlink, methods=["POST"]),
    Route("/settings/telegram/test", test, methods=["POST"]),
    Route("/settings/telegram/requests/{chat_id}/connect", connect, methods=["POST"]),
    Route("/settings/telegram/requests/{chat_id}/refuse", refuse, methods=["POST"]),
    Route("/settings/notify", notify, methods=["POST"]),
]
