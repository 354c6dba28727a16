"""What is handed over to Redis, where Redis keeps it waiting."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from web.data import store
from web.data.store import Store
from web.live import relay as relays
from web.live.relay import FRAMES, MISSED, Frame, Notice, Relay

LAST = Frame([1], "the last frame")


@asynccontextmanager
async def listening(environ: dict[str, str]) -> AsyncIterator[tuple[Store, Callable[[], Awaitable[tuple[str, str]]]]]:
    """A store, and what waits for the next message on the relay's channels: its channel and data."""
    async with (
        store.connect(environ["REDIS_URL"]) as redis,
        redis.client.pubsub(ignore_subscribe_messages=True) as pubsub,
    ):
        await pubsub.subscribe(FRAMES, MISSED)

        async def published() -> tuple[str, str]:
            async with asyncio.timeout(5):
                async for message in pubsub.listen():
                    return message["channel"], message["data"]
            raise AssertionError

        yield redis, published


def make_relay(redis: Store, lists: list[str] | None = None) -> Relay[str]:
    """A relay that notes each change of a cached list in `lists`."""

    def note(_: object, changes: Sequence[str]) -> None:
        if lists is not None:
            lists.extend(changes)

    return Relay[str](redis, update_lists=note, enqueue=lambda _: None)


async def hang(redis: Store, relay: Relay[str]) -> None:
    """Redis hangs for half a second, with a frame on its way."""
    await redis.client.client_pause(500)
    relay.publish(Frame([1], "on its way"))
    while relay._frames:  # noqa: ASYNC110
        await asyncio.sleep(0)


def test_a_frame_that_redis_has_not_taken_yet_is_handed_over_before_the_process_ends(environ: dict[str, str]) -> None:
    async def run() -> None:
        async with listening(environ) as (redis, published):
            relay = make_relay(redis)
            async with relay.running():
                await hang(redis, relay)

            _, data = await published()
            assert "on its way" in data

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["frames", "notices"])
def test_too_many_that_wait_are_dropped_and_every_process_learns_it(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(relays, "BOUND", 3)

    async def run() -> None:
        async with listening(environ) as (redis, published):
            relay, other = make_relay(redis), make_relay(redis)
            async with relay.running():
                await hang(redis, relay)
                for n in range(1, 5):
                    if kind == "frames":
                        relay.publish(Frame([1], f"number {n}"))
                    else:
                        relay.notify(Notice("topic", [n]))

                _, data = await published()
                assert other.heard(data) == ([Frame([1], "on its way")], [])
                assert (await published())[0] == MISSED
                _, data = await published()
                frames, notices = other.heard(data)
                assert (frames or notices) == ([Frame([1], "number 4")] if kind == "frames" else [Notice("topic", [4])])

                relay.publish(LAST)
                channel, data = await published()
                assert (channel, other.heard(data)) == (FRAMES, ([LAST], []))  # it is said once

    asyncio.run(run())


def test_too_many_changes_of_lists_that_wait_are_dropped_without_a_word(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "BOUND", 3)
    lists: list[str] = []

    async def run() -> None:
        async with listening(environ) as (redis, published):
            relay = make_relay(redis, lists)
            async with relay.running():
                await hang(redis, relay)
                for n in range(1, 5):
                    relay.update_list(f"change {n}")
                relay.publish(LAST)

                assert "on its way" in (await published())[1]
                assert "the last frame" in (await published())[1]

    asyncio.run(run())
    assert set(lists) == {"change 4"}  # perhaps twice, if the relay ends before Redis has answered
