"""Presence: leases that say who has a live tab, and who has one in view."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
import redis as redis_sync
from redis.asyncio import Redis

from tests.site import Person, eventually
from web.live import presence
from web.live.presence import Presence


def run(environ: dict[str, str], steps: Callable[[Redis], Awaitable[Presence]]) -> Presence:
    async def connected() -> Presence:
        async with Redis.from_url(environ["REDIS_URL"], decode_responses=True) as redis:
            return await steps(redis)

    return asyncio.run(connected())


def test_nobody_is_there_at_first(environ: dict[str, str]) -> None:
    assert run(environ, lambda redis: presence.look(redis, 1)) == Presence(in_view=False, live_for=0)


def test_a_tab_is_live_for_two_minutes_after_it_closed(environ: dict[str, str]) -> None:
    async def steps(redis: Redis) -> Presence:
        await presence.refresh(redis, "one", {1: False})
        return await presence.look(redis, 1)

    found = run(environ, steps)

    assert not found.in_view
    assert 119 < found.live_for <= 120


def test_one_process_does_not_affect_the_tabs_of_another(environ: dict[str, str]) -> None:
    async def steps(redis: Redis) -> Presence:
        await presence.refresh(redis, "one", {1: True, 2: True})
        await presence.refresh(redis, "two", {1: True})
        await presence.refresh(redis, "one", {1: False, 2: False})
        assert not (await presence.look(redis, 2)).in_view
        return await presence.look(redis, 1)

    assert run(environ, steps).in_view


def test_the_lease_of_a_killed_process_ends_by_itself(
    environ: dict[str, str], valkey: redis_sync.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(redis: Redis) -> Presence:
        await presence.refresh(redis, "killed", {1: True})
        await presence.refresh(redis, "other", {1: False})
        assert (await presence.look(redis, 1)).in_view
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + presence.VIEW_SECONDS + 1)
        return await presence.look(redis, 1)

    assert not run(environ, steps).in_view
    assert 0 < int(valkey.ttl("view:1")) <= presence.VIEW_SECONDS


def test_a_tab_of_the_site_is_live_while_it_is_open(environ: dict[str, str], alice: Person) -> None:
    async def everybody(redis: Redis) -> Presence:
        (key,) = [key async for key in redis.scan_iter("live:*")]
        return await presence.look(redis, int(key.removeprefix("live:")))

    with alice.socket() as tab:
        eventually(lambda: run(environ, everybody).live_for > 0)
        assert not run(environ, everybody).in_view
        tab.send(action="view", visible="true")
        eventually(lambda: run(environ, everybody).in_view)

    eventually(lambda: not run(environ, everybody).in_view)
    assert run(environ, everybody).live_for > 0
