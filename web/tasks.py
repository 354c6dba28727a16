"""The worker: Dramatiq hands it the ids of notifications, and its sweep finds those that were forgotten.

It is run by `python -m dramatiq web.tasks --processes 1 --threads 8`. Importing this module reads no environment and
connects to nothing: that waits for the first task.

The queue is only a hint of what to look at first: the outbox decides. So a lost queue costs seconds, a task that runs
twice finds its row claimed, and nothing here is tried again by Dramatiq or by the Redis client.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import cache
from typing import Any

import dramatiq
from dramatiq.asyncio import async_to_sync
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AgeLimit, AsyncIO, Middleware, TimeLimit
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from web import db, log, settings, store, sweep, telegram
from web.teller import Teller

logger = logging.getLogger(__name__)

ENQUEUE_SECONDS = 2.0
"""What a whole `enqueue` may take."""
REST_SECONDS = 1.0
"""For so long after Redis failed, `enqueue` does not try."""
TASK_MS = 60_000
"""How long a task may wait, and how long it may take: by then the sweep has found its row again."""

_resting_until = 0.0


def enqueue(ids: Sequence[int]) -> None:
    """Hand notifications to the worker. Blocks, for three seconds at the most: to be called in a thread.

    Raises RedisError or OSError where Redis is away; the sweep finds the rows then.
    """
    global _resting_until
    started = time.monotonic()
    if started < _resting_until:
        raise ConnectionError("Redis did not answer a moment ago")
    try:
        for notification_id in ids:
            tell.send(notification_id)
            if time.monotonic() - started > ENQUEUE_SECONDS:
                raise TimeoutError(f"Redis took more than {ENQUEUE_SECONDS:.0f} seconds")
    except (RedisError, OSError):
        _resting_until = time.monotonic() + REST_SECONDS
        raise


class _LazyRedis:
    """What the broker wants of a Redis client; the real one is made when a script is first run."""

    def register_script(self, text: bytes) -> Callable[..., Any]:
        script = cache(lambda: _redis().register_script(text))
        return lambda **arguments: script()(**arguments)


@cache
def _redis() -> Redis:
    return Redis.from_url(
        settings.load().redis_url,
        socket_connect_timeout=0.5,
        socket_timeout=1,
        # A command whose answer was lost may have been carried out, and would run the actor twice.
        retry=Retry(NoBackoff(), 0),
    )


class _Parts(Middleware):
    """What the actor needs: made on the worker's event loop before the first task, given back after the last."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    def before_worker_boot(self, *_: object) -> None:
        async_to_sync(self._open)()

    def after_worker_shutdown(self, *_: object) -> None:
        async_to_sync(self._stack.aclose)()

    async def _open(self) -> None:
        chosen = settings.load()
        log.configure(chosen)
        engine = await self._stack.enter_async_context(db.connect(chosen))
        redis = await self._stack.enter_async_context(store.connect(chosen.redis_url))
        bot = None
        if chosen.telegram_bot_token:
            bot = await self._stack.enter_async_context(telegram.connect(chosen))
        else:
            logger.warning("TELEGRAM_BOT_TOKEN is not set, so nobody is told on Telegram")
        self.teller = Teller(db.sessions(engine), redis.client, bot, chosen.site_url)
        sweeping = asyncio.create_task(sweep.forever(self.teller.db, redis.client, enqueue))
        self._stack.callback(sweeping.cancel)


_parts = _Parts()

broker = RedisBroker(  # type: ignore[no-untyped-call]
    client=_LazyRedis(),
    middleware=[AgeLimit(), TimeLimit(time_limit=TASK_MS), AsyncIO(), _parts],
    # Every command looks for the tasks of dead workers, and five seconds of silence are death.
    maintenance_chance=1_000_000,
    heartbeat_timeout=5000,
    dead_message_ttl=3_600_000,
)
dramatiq.set_broker(broker)


@dramatiq.actor(broker=broker, queue_name="telegram", max_age=TASK_MS)
async def tell(notification_id: int) -> None:
    """Tell a user, on Telegram, of a conversation: the outbox's row says whom and of what."""
    try:
        await _parts.teller.tell(notification_id)
    except db.UNAVAILABLE as error:
        logger.warning("PostgreSQL is away, so notification %d waits for the sweep: %s", notification_id, error)
