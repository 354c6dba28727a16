"""Sockets under attack: too many of them, too many frames, and frames that nobody can read."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import SimpleNamespace

import pytest
from websockets.exceptions import ConnectionClosed

from tests import site as sites
from tests.site import Page, Site, Tab
from web.accounts import pace
from web.live.hub import TABS
from web.live.socket import CROWDED, TOO_FAST

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
