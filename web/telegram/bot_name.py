"""The bot's username: the worker gets it from Telegram and puts it into Redis, where the pages find it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from web.data.store import REDIS_AWAY, Store
from web.telegram.errors import TelegramError

log = logging.getLogger(__name__)

PERIOD = 10.0
"""Seconds between two publications: Redis may have lost the name meanwhile."""

_known: dict[str, str] = {}


async def publish_forever(redis: Redis, token: str, get_me: Callable[[], Awaitable[str]]) -> None:
    """Call `get_me` until Telegram answers, and keep the answer in Redis."""
    name = ""
    while True:
        try:
            name = name or await get_me()
            await redis.set(_key(token), name)
        except TelegramError as error:
            log.warning("The settings page cannot show the bot's link: %s", error)
        except REDIS_AWAY:
            pass  # the sweep logs that
        await asyncio.sleep(PERIOD)


async def find(store: Store, token: str) -> str | None:
    """The name without the @; None until the worker has published it. Remembered for good: a bot keeps its name."""
    if token not in _known:
        name = await store.attempt(store.client.get(_key(token)))
        if not name:
            return None
        _known[token] = str(name)
    return _known[token]


def _key(token: str) -> str:
    return f"telegram-name:{token.partition(':')[0]}"
