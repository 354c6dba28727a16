"""The bot's own name: the worker asks Telegram for it, and the pages find it in Redis."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from web.data.store import REDIS_AWAY, Store
from web.telegram.errors import TelegramError

log = logging.getLogger(__name__)

PERIOD = 10.0
"""Seconds after which the name is put there again, since Redis may have lost it."""

_known: dict[str, str] = {}


async def publish_forever(redis: Redis, token: str, ask: Callable[[], Awaitable[str]]) -> None:
    """Ask Telegram until it says, and keep what it said in Redis."""
    name = ""
    while True:
        try:
            name = name or await ask()
            await redis.set(_key(token), name)
        except TelegramError as error:
            log.warning("The settings page cannot show the bot's link: %s", error)
        except REDIS_AWAY:
            pass  # the sweep says so
        await asyncio.sleep(PERIOD)


async def find(store: Store, token: str) -> str | None:
    """The name without the @; None while the worker did not learn it. It is remembered: a bot keeps its name."""
    if token not in _known:
        name = await store.attempt(store.client.get(_key(token)))
        if not name:
            return None
        _known[token] = str(name)
    return _known[token]


def _key(token: str) -> str:
    return f"telegram-name:{token.partition(':')[0]}"
