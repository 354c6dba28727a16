"""The cached lists: filled on a miss, appended to after a commit, never stale, never needed (C1 to C3)."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from unittest import mock

import psycopg
import pytest
import redis
from markupsafe import Markup

from tests import site as sites
from tests.site import Page, Person, Site, eventually, free_port
from web.chat import cache, conversations, history
from web.chat.cache import Cache, Change, Latest
from web.chat.conversations import Conversation
from web.chat.history import Latests
from web.data import store
from web.data.questions import Reader

T = TypeVar("T")


def cached(valkey: redis.Redis) -> list[str] | None:
    """The one cached list, with its head; None while there is none."""
    keys = list(valkey.scan_iter("latest:*"))
    assert len(keys) <= 1
    return [str(item) for item in valkey.lrange(keys[0], 0, -1)] if keys else None


def test_opening_a_chat_fills_the_list_and_a_message_is_appended(
    alice: Person, bob: Person, valkey: redis.Redis
) -> None:
    alice.post("bob", "one")
    assert cached(valkey) is None

    bob.page("/chat/alice")
    eventually(lambda: (cached(valkey) or [""])[0] == "1:1")

    alice.post("bob", "two")
    eventually(lambda: (cached(valkey) or [""])[0] == "2:2")
    held = cached(valkey) or []
    assert [body in item for body, item in zip(("one", "two"), held[1:], strict=True)] == [True, True]


def test_the_page_is_read_from_redis_when_the_list_is_there(
    alice: Person, bob: Person, valkey: redis.Redis, postgres: psycopg.Connection
) -> None:
    alice.post("bob", "as it was")
    bob.page("/chat/alice")
    postgres.execute("UPDATE messages SET body = 'changed behind the cache'")

    assert bob.page("/chat/alice").bodies == ["as it was"]
    valkey.flushdb()
    # For a second a process shares a list that it loaded; then PostgreSQL is asked again.
    eventually(lambda: bob.page("/chat/alice").bodies == ["changed behind the cache"])


def test_a_list_that_missed_a_change_is_not_shown(
    alice: Person, bob: Person, valkey: redis.Redis, postgres: psycopg.Connection
) -> None:
    alice.post("bob", "one")
    bob.page("/chat/alice")
    key = next(valkey.scan_iter("latest:*"))
    older = valkey.lrange(key, 0, -1)
    alice.post("bob", "two")
    eventually(lambda: (cached(valkey) or [""])[0] == "2:2")

    valkey.delete(key)
    valkey.rpush(key, *older)

    assert bob.page("/chat/alice").bodies == ["one", "two"]
    eventually(lambda: (cached(valkey) or [""])[0] == "2:2")


def test_a_crowd_of_readers_loads_a_cold_list_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []

    async def load(_reader: object, conversation: Conversation) -> Latest:
        loads.append(conversation)
        await asyncio.sleep(0)
        return Latest(1, 1, [Markup("hello")])

    cold = mock.create_autospec(Cache, instance=True)
    cold.read.return_value = None
    monkeypatch.setattr(history, "load_latest", load)
    conversation = Conversation(7, (conversations.Person(1, "alice"), conversations.Person(2, "bob")))
    latests = Latests(mock.create_autospec(Reader, instance=True), cold)

    async def crowd() -> list[Latest]:
        return await asyncio.gather(*(latests.of(conversation, 1) for _ in range(40)))

    assert asyncio.run(crowd()) == [Latest(1, 1, [Markup("hello")])] * 40
    assert len(loads) == 1


def test_without_redis_the_site_works(environ: dict[str, str], clean: None) -> None:
    with sites.in_this_process(environ, REDIS_URL="redis://127.0.0.1:1") as site:
        alice, bob = site.person("alice"), site.person("bob")
        with alice.socket() as hers, bob.socket() as his:
            for n in range(3):
                hers.write("bob", f"number {n}")
                assert hers.message().body == his.message().body == f"number {n}"
        assert bob.page("/chat/alice").bodies == ["number 0", "number 1", "number 2"]
        assert bob.page("/").chats == ["alice"]
        assert site.client().get("/readyz").json() == {"postgresql": "ok", "redis": "away"}

        with alice.socket() as hers:
            alice.log_out()
            assert hers.close_code() == 4401


@pytest.fixture
def upgraded(tmp_path: Path) -> Callable[[str, str, str], Path]:
    """Makes a checkout of another release, in which a file has something else instead of `old`."""

    def make(path: str, old: str, new: str) -> Path:
        for name in ("web", "templates", "static"):
            shutil.copytree(sites.TOP / name, tmp_path / name)
        (tmp_path / "node_modules").symlink_to(sites.TOP / "node_modules")
        source = (tmp_path / path).read_text()
        assert old in source
        (tmp_path / path).write_text(source.replace(old, new))
        return tmp_path

    return make


def test_after_an_upgrade_messages_are_rendered_anew(
    alice: Person, bob: Person, environ: dict[str, str], valkey: redis.Redis, upgraded: Callable[[str, str, str], Path]
) -> None:
    alice.post("bob", "hello")
    assert bob.page("/chat/alice").bodies == ["hello"]
    assert cached(valkey)
    checkout = upgraded("templates/chat/_message.html", 'class="message-body"', 'class="message-body" title="new"')
    site = Site({**environ, "PORT": str(free_port()), "WEB_PROCESSES": "1"}, checkout)
    try:
        site.start()
        page = Page(site.client(bob.cookies).get("/chat/alice"))
    finally:
        site.stop()

    assert page.bodies == ["hello"]
    assert page.one("[data-seq] .message-body")["title"] == "new"


@pytest.mark.parametrize(
    ("path", "old", "new", "same"),
    [
        ("templates/chat/chat.html", "<", "<", True),
        ("templates/chat/_message.html", "message-body", "message-words", False),
        ("templates/_time.html", "<time", "<time hidden", False),
        ("web/templates.py", "%H:%M UTC", "%H.%M UTC", False),
        ("web/chat/formatting.py", "noopener", "opener", False),
    ],
)
def test_a_release_with_other_messages_has_lists_of_its_own(
    upgraded: Callable[[str, str, str], Path], path: str, old: str, new: str, same: bool
) -> None:
    script = "from web.chat import cache; print(cache._key(7))"
    checkout = upgraded(path, old, new)
    key = subprocess.check_output([sys.executable, "-c", script], cwd=checkout, text=True).strip()

    assert (key == cache._key(7)) == same


@pytest.fixture
def lists(environ: dict[str, str], clean: None) -> Callable[[Callable[[Cache, store.Store], Awaitable[T]]], T]:
    """Runs a coroutine with a cache on the tests' Valkey."""

    def run(use: Callable[[Cache, store.Store], Awaitable[T]]) -> T:
        async def connected() -> T:
            async with store.connect(environ["REDIS_URL"]) as redis:
                return await use(Cache(redis), redis)

        return asyncio.run(connected())

    return run


def latest(version: int, count: int) -> Latest:
    return Latest(version, version, [Markup(f"<li>{n}</li>") for n in range(version - count + 1, version + 1)])


Lists = Callable[[Callable[[Cache, store.Store], Awaitable[None]]], None]


def test_the_higher_version_wins_whoever_comes_last(lists: Lists) -> None:
    async def use(cache: Cache, _: store.Store) -> None:
        for version in (3, 5, 4):
            await cache.fill(7, latest(version, version))

        assert await cache.read(7, 5) == latest(5, 5)
        assert await cache.read(7, 6) is None

    lists(use)


def test_at_most_fifty_are_kept_and_the_head_is_no_message(lists: Lists) -> None:
    async def use(cached: Cache, redis: store.Store) -> None:
        await cached.fill(7, latest(45, 45))
        for version in range(46, 120):
            pipeline = redis.client.pipeline(transaction=False)
            cache.update(pipeline, [appended(version)])
            await pipeline.execute()

            assert await cached.read(7, version) == latest(version, min(version, 50))

    lists(use)


def test_a_change_that_does_not_follow_drops_the_list_and_a_late_one_changes_nothing(lists: Lists) -> None:
    async def use(cached: Cache, redis: store.Store) -> None:
        await change(redis, appended(5))
        assert await cached.read(7, 5) is None  # nothing to append to

        await cached.fill(7, latest(5, 5))
        for late in (4, 5):
            await change(redis, appended(late))
            assert await cached.read(7, 5) == latest(5, 5)

        for odd in (appended(7), Change(7, 4, 6, 6, [(5, "<li>5</li>"), (6, "<li>6</li>")])):
            await cached.fill(7, latest(5, 5))
            await change(redis, odd)
            assert await cached.read(7, 0) is None

    lists(use)


def test_a_changed_message_is_replaced_in_its_place(lists: Lists) -> None:
    async def use(cached: Cache, redis: store.Store) -> None:
        await cached.fill(7, latest(3, 3))

        await change(redis, Change(7, 3, 4, 3, [(2, "<li>2, edited</li>")]))
        await change(redis, Change(7, 4, 5, 3, [(3, "<li>3, edited</li>")]))
        edited = ["<li>1</li>", "<li>2, edited</li>", "<li>3, edited</li>"]
        assert await cached.read(7, 5) == Latest(5, 3, edited)

        await change(redis, Change(7, 5, 6, 4, [(4, "<li>4</li>")]))
        assert await cached.read(7, 6) == Latest(6, 4, [*edited, "<li>4</li>"])

    lists(use)


def test_of_a_message_that_is_older_than_the_list_only_the_version_is_kept(lists: Lists) -> None:
    async def use(cached: Cache, redis: store.Store) -> None:
        await cached.fill(7, latest(60, 50))

        await change(redis, Change(7, 60, 61, 60, [(10, "<li>10, edited</li>")]))
        assert await cached.read(7, 61) == latest(60, 50)._replace(version=61)

        await change(redis, Change(7, 61, 62, 60, [(11, "<li>11, edited</li>")]))
        found = await cached.read(7, 62)
        assert found is not None
        assert list(found.messages[:2]) == ["<li>11, edited</li>", "<li>12</li>"]

    lists(use)


def test_a_list_that_nobody_opens_or_changes_expires(lists: Lists) -> None:
    async def use(cached: Cache, redis: store.Store) -> None:
        async def seconds_left() -> int:
            (key,) = await redis.client.keys("latest:*")
            return int(await redis.client.ttl(key))

        await cached.fill(7, latest(5, 5))
        assert 0 < await seconds_left() <= cache.SECONDS
        for key in await redis.client.keys("latest:*"):
            await redis.client.expire(key, 60)
        await change(redis, appended(6))
        assert 60 < await seconds_left() <= cache.SECONDS

    lists(use)


def appended(version: int) -> Change:
    return Change(7, version - 1, version, version, [(version, f"<li>{version}</li>")])


async def change(redis: store.Store, it: Change) -> None:
    pipeline = redis.client.pipeline(transaction=False)
    cache.update(pipeline, [it])
    await pipeline.execute()
