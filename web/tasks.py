"""The worker: Dramatiq hands it the ids of notifications, and its sweep finds those that were forgotten.

It is run by `python -m dramatiq web.tasks --processes 1 --threads 8`. Importing this module, as the web processes do,
reads no environment, connects to nothing, and leaves aiogram to the worker.

The queue is only a hint of what to look at first: the outbox decides. So a lost queue costs seconds, a task that runs
twice finds its row claimed, and nothing here is tried again by Dramatiq or by the Redis client.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.asyncio import async_to_sync
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import DramatiqError
from dramatiq.middleware import AgeLimit, AsyncIO, Middleware, TimeLimit
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from web import log, settings
from web.data import postgres, store
from web.notifications import sweep
from web.settings import BadSetting
from web.telegram import bot_name

if TYPE_CHECKING:
    from web.notifications.sending import Sender

logger = logging.getLogger(__name__)

ENQUEUE_SECONDS = 2.0
"""What a whole `enqueue` may take."""
REST_SECONDS = 1.0
"""For so long after Redis failed, `enqueue` does not try."""
TASK_MS = 60_000
"""How long a task may wait, and how long it may take: by then the sweep has found its row again."""
TEST_MS = 15_000
"""How long somebody waits for what became of a test message."""

_resting_until = 0.0


def enqueue(ids: Sequence[int]) -> None:
    """Hand notifications to the worker. Blocks, for three seconds at the most: to be called in a thread.

    Raises OSError if Redis is away; the sweep finds the rows then.
    """
    global _resting_until
    started = time.monotonic()
    if started < _resting_until:
        raise ConnectionError("Redis did not answer a moment ago")
    try:
        for notification_id in ids:
            send_notification.send(notification_id)
            if time.monotonic() - started > ENQUEUE_SECONDS:
                raise TimeoutError(f"Redis took more than {ENQUEUE_SECONDS:.0f} seconds")
    except (RedisError, DramatiqError, OSError) as error:
        _resting_until = time.monotonic() + REST_SECONDS
        raise ConnectionError(str(error)) from error


class _LazyRedis:
    """What the broker wants of a Redis client; the real one is made when a script is run."""

    def register_script(self, text: bytes) -> Callable[..., Any]:
        return lambda **arguments: _redis().register_script(text)(**arguments)


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
    """What the actors need: made on the worker's event loop before the first task, given back after the last."""

    sender: "Sender"

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    def before_worker_boot(self, *_: object) -> None:
        try:
            async_to_sync(self._open)()
        except BadSetting as error:
            raise SystemExit(f"knock: {error}") from None

    def after_worker_shutdown(self, *_: object) -> None:
        async_to_sync(self._stack.aclose)()

    async def _open(self) -> None:
        from web.notifications import sending
        from web.telegram import api

        chosen = settings.load()
        log.configure(chosen)
        engine = await self._stack.enter_async_context(postgres.connect(chosen))
        redis = (await self._stack.enter_async_context(store.connect(chosen.redis_url))).client
        sessions = postgres.database(engine)
        bot = None
        if token := chosen.telegram_bot_token:
            bot = await self._stack.enter_async_context(api.connect(chosen))
            self._keep_doing(bot_name.publish_forever(redis, token, partial(api.username, bot)))
        else:
            logger.warning("TELEGRAM_BOT_TOKEN is not set, so nobody is told on Telegram")
        self.sender = sending.Sender(sessions, redis, bot, chosen.site_url)
        self._keep_doing(sweep.forever(sessions, redis, enqueue))

    def _keep_doing(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._stack.callback(task.cancel)


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
async def send_notification(notification_id: int) -> None:
    """Tell a user, on Telegram, of a conversation: the outbox's row says whom and of what."""
    try:
        await _parts.sender.send(notification_id)
    except postgres.DATABASE_AWAY as error:
        logger.warning("PostgreSQL is away, so notification %d waits for the sweep: %s", notification_id, error)


@dramatiq.actor(broker=broker, queue_name="telegram", max_age=TEST_MS)
async def send_test(user_id: int, answer_key: str) -> None:
    """Send the message of the settings page's button, and leave in Redis, for the page, what became of it."""
    said = await _parts.sender.test(user_id)
    await _parts.sender.redis.set(answer_key, said, ex=TEST_MS // 1000)
