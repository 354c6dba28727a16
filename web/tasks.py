"""The worker: Dramatiq hands it the ids of notifications, and its sweep finds those that were lost on the way.

`python -m dramatiq web.tasks --skip-logging --processes 1 --threads 8` runs it. The web processes import this module to
enqueue, so importing it reads no environment, connects to nothing and does not import aiogram.

The queue only says what to look at first; the outbox decides. So a lost queue costs seconds, a task that runs twice
finds its row claimed, and neither Dramatiq nor the Redis client retries anything.
"""

import logging
import time
from collections.abc import Callable, Sequence
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

from web import log, loops, settings
from web.data import postgres, store
from web.data.questions import Reader
from web.live.relay import Relay
from web.notifications import sweep
from web.server import CannotStart, cluster, heartbeat
from web.settings import BadSetting
from web.telegram import bot_name

if TYPE_CHECKING:
    from web.notifications.sending import Sender

logger = logging.getLogger(__name__)

ENQUEUE_SECONDS = 2.0
"""How long an `enqueue` may take."""
REST_SECONDS = 1.0
"""How long `enqueue` does not try after Redis failed."""
TASK_MS = 60_000
"""How long a task may wait, and how long it may take: by then the sweep has found its row again."""
TEST_MS = 15_000
"""How long a person waits for the outcome of a test message."""

_resting_until = 0.0


def enqueue(ids: Sequence[int]) -> None:
    """Hand notifications to the worker. Blocks for up to three seconds, so call it in a thread.

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
    """What the broker needs of a Redis client. The real one is created when a script first runs."""

    def register_script(self, text: bytes) -> Callable[..., Any]:
        return lambda **arguments: _redis().register_script(text)(**arguments)


@cache
def _redis() -> Redis:
    return Redis.from_url(
        settings.load().redis_url,
        socket_connect_timeout=0.5,
        socket_timeout=1,
        # A command whose answer was lost may have been carried out, so a retry would run the actor twice.
        retry=Retry(NoBackoff(), 0),
    )


class _Parts(Middleware):
    """What the actors need: opened on the worker's event loop before the first task, closed after the last."""

    sender: "Sender"

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    def after_process_boot(self, *_: object) -> None:
        chosen = settings.load()
        log.configure(chosen)
        # Before there is a thread with an event loop, for which the end of the process would wait.
        try:
            cluster.refuse(chosen.redis_url)
        except CannotStart as error:
            raise SystemExit(f"knock: {error}") from None

    def before_worker_boot(self, *_: object) -> None:
        try:
            async_to_sync(self._open)()
        except (BadSetting, CannotStart) as error:
            raise SystemExit(f"knock: {error}") from None

    def after_worker_shutdown(self, *_: object) -> None:
        async_to_sync(self._stack.aclose)()

    async def _open(self) -> None:
        from web.chat import search
        from web.notifications import sending

        chosen = settings.load()
        self._stack.enter_context(heartbeat.serving(chosen))
        engine = await self._stack.enter_async_context(postgres.connect(chosen))
        connection = await self._stack.enter_async_context(store.connect(chosen.redis_url))
        redis = connection.client
        sessions = postgres.database(engine)
        forever = [partial(sweep.forever, sessions, redis, enqueue), partial(search.index_forever, sessions)]
        bot = announce = None
        if token := chosen.telegram_bot_token:
            from web.chat import cache, list_updates
            from web.telegram import api

            reader = Reader(engine)
            relay = Relay[cache.Change](connection, update_lists=cache.update, enqueue=enqueue)
            for part in (reader, relay):
                await self._stack.enter_async_context(part.running())
            announce = partial(list_updates.publish_of, sessions, reader, relay)
            bot = await self._stack.enter_async_context(api.connect(chosen))
            forever.append(partial(bot_name.publish_forever, redis, token, partial(api.username, bot)))
        else:
            logger.warning("TELEGRAM_BOT_TOKEN is not set, so nobody is told on Telegram")
        self.sender = sending.Sender(sessions, redis, bot, chosen, announce)
        if bot is not None:
            forever.append(partial(self.sender.mend_forever))
        await self._stack.enter_async_context(loops.running(*forever))


_parts = _Parts()

broker = RedisBroker(  # type: ignore[no-untyped-call]
    client=_LazyRedis(),
    middleware=[AgeLimit(), TimeLimit(time_limit=TASK_MS), AsyncIO(), _parts],
    # Every command looks for the tasks of dead workers. A worker that was silent for five seconds counts as dead.
    maintenance_chance=1_000_000,
    heartbeat_timeout=5000,
    dead_message_ttl=3_600_000,
)
dramatiq.set_broker(broker)


@dramatiq.actor(broker=broker, queue_name="telegram", max_age=TASK_MS)
async def send_notification(notification_id: int) -> None:
    """Notify a user on Telegram; the outbox's row says whom, and of which conversation."""
    try:
        await _parts.sender.send(notification_id)
    except postgres.DATABASE_AWAY as error:
        logger.warning("PostgreSQL is away, so notification %d waits for the sweep: %s", notification_id, error)


# On a queue of its own, and of less importance than any notification: however many there are, knocks go first.
@dramatiq.actor(broker=broker, queue_name="telegram-tests", priority=10, max_age=TEST_MS)
async def send_test(user_id: int, answer_key: str) -> None:
    """Send the test message of the settings page, and leave its outcome in Redis for the page."""
    said = await _parts.sender.test(user_id)
    await _parts.sender.redis.set(answer_key, said, ex=TEST_MS // 1000)
