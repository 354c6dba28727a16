"""The sweep: what it enqueues, how often, and what it forgets."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest
import redis as redis_sync
from redis.asyncio import Redis

from tests.notifications.scene import Scene
from web.data import postgres
from web.data.postgres import Database
from web.notifications import sweep

T = TypeVar("T")


def with_redis(scene: Scene, environ: dict[str, str], work: Callable[[Database, Redis], Awaitable[T]]) -> T:
    async def working() -> T:
        async with Redis.from_url(environ["REDIS_URL"], decode_responses=True) as client:
            return await work(postgres.database(scene.engine), client)

    return scene.runner.run(working())


def test_a_row_is_swept_once_in_ten_seconds_and_when_it_is_due_anew(
    scene: Scene, environ: dict[str, str], valkey: redis_sync.Redis
) -> None:
    (notification,) = scene.write("hello")

    assert with_redis(scene, environ, sweep.unswept) == [notification]
    assert with_redis(scene, environ, sweep.unswept) == []
    (mark,) = valkey.keys("swept:*")
    assert 9 <= valkey.ttl(mark) <= 10

    scene.later(1)
    assert with_redis(scene, environ, sweep.unswept) == [notification]
    valkey.flushall()
    assert with_redis(scene, environ, sweep.unswept) == [notification]


def test_it_enqueues_what_is_due_and_forgets_what_is_old(
    scene: Scene, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PERIOD", 0.01)
    (old,) = scene.write("hello")
    scene.postgres.execute("UPDATE notifications SET state = 'cancelled', due_at = now() - interval '31 days'")
    (due,) = scene.write("hello")

    async def sweep_twice(db: Database, redis: Redis) -> list[int]:
        enqueued: asyncio.Queue[int] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def enqueue(ids: Sequence[int]) -> None:
            for id in ids:
                loop.call_soon_threadsafe(enqueued.put_nowait, id)

        sweeping = asyncio.create_task(sweep.forever(db, redis, enqueue))
        async with asyncio.timeout(10):
            first = await enqueued.get()
            scene.later(1)
            second = await enqueued.get()
        sweeping.cancel()
        return [first, second]

    assert with_redis(scene, environ, sweep_twice) == [due, due]
    assert scene.value("SELECT id FROM notifications") == due
    assert old != due
