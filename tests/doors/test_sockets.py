"""Sockets under attack: too many of them, too many frames, and frames that nobody can read."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import redis
from redis.asyncio import Redis as AsyncRedis
from websockets.exceptions import ConnectionClosed

from tests import site as sites
from tests.faults.proxy import Proxy
from tests.site import Page, Site, Tab, eventually
from web import settings
from web.accounts import pace
from web.live import hub
from web.live.hub import TABS
from web.live.relay import MISSED
from web.live.socket import CROWDED, NOT_SIGNED_IN, RESTART, TOO_FAST
from web.site import running

RATE = 5
BURST = 2 * RATE


class Clock:
    """The clock of every pace; it stands still until a test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def strict(environ: dict[str, str], clean: None, clock: Clock) -> Iterator[Site]:
    """A site with every limit."""
    with sites.in_this_process(environ, LIMITS="on", SOCKET_RATE=str(RATE)) as site:
        yield site


def flood(tab: Tab, frame: str | bytes, count: int) -> None:
    with suppress(ConnectionClosed):
        for _ in range(count):
            tab.websocket.send(frame)


def test_of_too_many_sockets_the_one_that_is_missed_least_goes(strict: Site, clock: Clock) -> None:
    alice, bob = strict.person("alice"), strict.person("bob")
    with ExitStack() as stack:
        his = stack.enter_context(bob.socket())
        viewed, *idle = [stack.enter_context(alice.socket()) for _ in range(TABS)]
        viewed.send(action="view", visible="true")
        assert viewed.is_open()
        assert idle[0].is_open()  # which makes the next one the oldest
        clock.now += 10

        new = stack.enter_context(alice.socket())

        assert idle[1].close_code() == CROWDED
        assert all(tab.is_open() for tab in (viewed, idle[0], *idle[2:6], new, his))


def test_without_limits_everybody_may_have_many_sockets(environ: dict[str, str], clean: None) -> None:
    with sites.in_this_process(environ) as site, ExitStack() as stack:
        alice = site.person("alice")
        tabs = [stack.enter_context(alice.socket()) for _ in range(TABS + 2)]
        assert all(tab.is_open() for tab in tabs)


def test_typing_is_told_once_in_three_seconds(environ: dict[str, str], clean: None, clock: Clock) -> None:
    with sites.in_this_process(environ) as site:
        alice, bob, charlie = map(site.person, ("alice", "bob", "charlie"))
        alice.post("bob", "hello")
        alice.post("charlie", "hello")
        with alice.socket() as one, alice.socket() as other, bob.socket() as his, charlie.socket() as hers:

            def heard(before: str) -> int:
                """How often Bob was told before that message."""
                one.write("bob", before)
                told = 0
                while not sites.messages(frame := his.frame()):
                    told += "alice is typing" in frame.get_text()
                return told

            for tab in (one, other):
                for _ in range(50):
                    tab.send(action="typing", to="bob")
                assert tab.is_open()
            one.send(action="typing", to="charlie")
            assert hers.next("[hx-target^='#typing']")
            assert heard("first") == 1

            clock.now += 2.9
            one.send(action="typing", to="bob")
            assert heard("too soon") == 0
            clock.now += 0.2
            one.send(action="typing", to="bob")
            assert heard("again") == 1


@pytest.mark.parametrize("frame", ["", "not JSON", b"\xff", "[]", '{"action":"dance"}', '{"action":"typing"}'])
def test_every_frame_counts_and_who_goes_on_is_cut_off(strict: Site, clock: Clock, frame: str | bytes) -> None:
    alice, bob = strict.person("alice"), strict.person("bob")
    with alice.socket() as hers, bob.socket() as his:
        flood(hers, frame, BURST)
        nonce = hers.write("bob", "too much")
        refusal = hers.next(f"[data-nonce='{nonce}']")
        assert refusal.has_attr("data-retry")

        flood(hers, frame, BURST * pace.BURSTS)
        assert hers.close_code() == TOO_FAST
        assert his.is_open()

    with alice.socket() as hers:
        flood(hers, frame, 1)
        assert hers.close_code() == TOO_FAST
    clock.now += 2
    with alice.socket() as hers:
        hers.write("bob", "at last")
        assert hers.message().body == "at last"


def test_messages_by_http_have_the_same_pace(strict: Site, clock: Clock) -> None:
    alice, bob = strict.person("alice"), strict.person("bob")

    answers = [alice.post("bob", f"number {n}") for n in range(BURST + 5)]

    assert [answer.status_code for answer in answers] == [303] * BURST + [429] * 5
    assert Page(answers[-1]).one("textarea").get_text().strip() == f"number {BURST + 4}"
    assert len(bob.page("/chat/alice").bodies) == BURST
    clock.now += 1 / RATE
    assert alice.post("bob", "patient").status_code == 303


def test_a_log_out_elsewhere_ends_sockets_while_redis_says_nothing(
    environ: dict[str, str], clean: None, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "SILENCE", 3600)  # it never counts as away
    with (
        Proxy(environ["REDIS_URL"].removeprefix("unix://")).running() as proxy,
        sites.in_this_process(environ, REDIS_URL=f"redis://127.0.0.1:{proxy.port}") as site,
    ):
        alice, bob = site.person("alice"), site.person("bob")
        with alice.socket() as hers, bob.socket() as his:
            # As another process leaves it whose notice does not arrive here.
            postgres.execute("DELETE FROM sessions USING users WHERE user_id = users.id AND username = 'alice'")
            time.sleep(3 * hub.DOUBT)
            assert hers.is_open()  # while Redis answers, PostgreSQL is not asked

            proxy.freeze()
            assert hers.close_code() == NOT_SIGNED_IN
            assert his.is_open()
            proxy.thaw()


def test_after_a_crash_pages_come_back_a_few_at_a_time(
    environ: dict[str, str], clean: None, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "PIECE", 2)
    monkeypatch.setattr(hub, "PIECE_PAUSE", 3600)
    with sites.in_this_process(environ) as site, ExitStack() as stack:
        alice = site.person("alice")
        viewed, *others = [stack.enter_context(alice.socket()) for _ in range(5)]
        viewed.send(action="view", visible="true")
        for tab in (viewed, *others):
            assert tab.is_open()
            time.sleep(0.01)  # an event loop's clock counts in milliseconds, and the last one heard goes first

        eventually(lambda: valkey.publish(MISSED, ""))  # once the process listens

        assert viewed.close_code() == RESTART
        assert others[-1].close_code() == RESTART
        assert all(tab.is_open() for tab in others[:-1])


def test_after_a_crash_every_page_comes_back(
    environ: dict[str, str], clean: None, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "PIECE", 2)
    with sites.in_this_process(environ) as site, ExitStack() as stack:
        alice = site.person("alice")
        tabs = [stack.enter_context(alice.socket()) for _ in range(7)]
        assert all(tab.is_open() for tab in tabs)
        eventually(lambda: valkey.publish(MISSED, ""))  # once the process listens
        eventually(lambda: valkey.publish(MISSED, ""))  # once the process listens

        assert {tab.close_code() for tab in tabs} == {RESTART}
        with alice.socket() as again:
            assert again.is_open()
            eventually(lambda: valkey.publish(MISSED, ""))  # once the process listens
            assert again.close_code() == RESTART


def test_presence_of_a_crowd_is_told_in_pieces(
    environ: dict[str, str], clean: None, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    evaluate = AsyncRedis.eval

    def counted(client: AsyncRedis, script: str, *arguments: Any) -> Any:
        asked.append(script)
        return evaluate(client, script, *arguments)

    async def run() -> int:
        """How many calls it took. A busy machine may be too slow for Redis's short timeout; then it is tried again."""
        async with running(settings.read({**environ, "PORT": "8000"})) as parts:
            for _ in range(5):
                asked.clear()
                await parts["hub"].renew_presence(range(2_500))
                if len(list(valkey.scan_iter("live:*"))) == 2_500:
                    return len(asked)
        raise AssertionError("the leases are not there")

    monkeypatch.setattr(AsyncRedis, "eval", counted)  # other processes make calls too
    assert asyncio.run(run()) <= 6  # three for the leases, three for who is seen to come
