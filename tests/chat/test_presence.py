"""Presence: who learns that somebody is online, or when they last were."""

import signal
import time
from contextlib import suppress
from typing import Any

import psycopg
import pytest
import redis
from bs4 import Tag
from websockets.exceptions import WebSocketException

from tests import site as sites
from tests.doors.test_blocks import block
from tests.faults.proxy import Proxy
from tests.site import Person, Site, Tab, eventually
from web.live import presence


def of(tab: Tab, name: str) -> Tag:
    """What that page hears next of somebody's presence."""
    return tab.next(f"[id^=presence-][data-name={name}]")


def learns(tab: Tab) -> list[Tag]:
    """What that page hears of people who are or were here, within a second."""
    found: list[Tag] = []
    with suppress(TimeoutError):
        while True:
            found += tab.frame(1).select("[data-online], [data-seen]")
    return found


def seen_by(person: Person, name: str) -> list[dict[str, object]]:
    """What the list of that person says of somebody when it catches up."""
    page = sites.Page(person.http.get("/", headers={"HX-Request": "true"}))
    return [dict(item.attrs) for item in page.html.select(f"[id^=presence-][data-name={name}]")]


def is_online(person: Person, name: str) -> bool:
    [seen] = seen_by(person, name)
    return "data-online" in seen


@pytest.fixture
def chat(alice: Person, bob: Person, charlie: Person) -> None:
    alice.post("bob", "hello")
    time.sleep(0.5)  # until it is over that two people learn of each other at their first message


def test_people_of_a_chat_see_who_comes_and_nobody_else_does(
    alice: Person, bob: Person, charlie: Person, chat: None
) -> None:
    assert not is_online(alice, "bob")
    with alice.socket() as hers, charlie.socket() as strange:
        with bob.socket():
            assert "data-online" in of(hers, "bob").attrs
            assert is_online(alice, "bob")
            assert "data-online" in seen_by_chat(alice, "bob")
            assert strange.hears_nothing_for(0.5)
        assert is_online(alice, "bob")  # he may only be opening a page anew
    assert seen_by(charlie, "bob") == []


def test_two_people_see_each_other_from_their_first_message_on(alice: Person, bob: Person, charlie: Person) -> None:
    with alice.socket() as hers, bob.socket() as his, charlie.socket() as strange:
        assert learns(hers) == []
        alice.post("bob", "hello")
        assert "data-online" in of(hers, "bob").attrs
        assert "data-online" in of(his, "alice").attrs
        assert strange.hears_nothing_for(0.5)


def seen_by_chat(person: Person, name: str) -> dict[str, object]:
    page = person.page(f"/chat/{name}/messages?after=0&first=1")
    return dict(page.one(f"[id^=presence-][data-name={name}]").attrs)


def test_who_left_was_last_seen(
    environ: dict[str, str], alice: Person, bob: Person, chat: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "GRACE_SECONDS", 0)
    with sites.in_this_process(environ) as site, alice.socket(site) as hers:
        with bob.socket(site), bob.socket(site):
            of(hers, "bob")
        seen = of(hers, "bob")
        assert "data-online" not in seen.attrs
        assert str(seen["data-seen"]).endswith(":00+00:00")  # rounded
        with bob.socket(site):
            assert "data-online" in of(hers, "bob").attrs


@pytest.mark.parametrize("late", ["move", "online"])
def test_who_comes_while_redis_is_slow_is_seen_all_the_same(
    environ: dict[str, str], alice: Person, bob: Person, chat: None, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    real = getattr(presence, late)
    asked: set[int] = set()

    async def first_too_late(*arguments: Any) -> Any:
        answer = await real(*arguments)
        users = set(arguments[-1])
        if not users <= asked:
            asked.update(users)
            raise TimeoutError  # Redis did it, but its answer is too late
        return answer

    monkeypatch.setattr(presence, late, first_too_late)
    with sites.in_this_process(environ) as site, alice.socket(site) as hers, bob.socket(site):
        assert "data-online" in of(hers, "bob").attrs


def test_a_tab_at_another_process_keeps_somebody_online(
    alice: Person, bob: Person, chat: None, valkey: redis.Redis
) -> None:
    with alice.socket() as hers, bob.sockets() as (first, _):
        assert "data-online" in of(hers, "bob").attrs
        eventually(lambda: max(valkey.zcard(key) for key in valkey.keys("here:*")) == 2)
        first.websocket.close()
        assert learns(hers) == []


def test_whose_process_was_killed_leaves_after_a_minute(
    environ: dict[str, str],
    alice: Person,
    bob: Person,
    chat: None,
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(presence, "REFRESH_SECONDS", 0.5)
    with sites.in_this_process(environ) as site, alice.socket(site) as hers:
        with suppress(WebSocketException), sites.running(environ, WEB_PROCESSES="1") as other, bob.socket(other):
            assert "data-online" in of(hers, "bob").attrs
            other.stop(signal.SIGKILL)
        assert learns(hers) == []
        for key in (presence.ONLINE, *valkey.keys("here:*")):  # a minute goes by
            for member in valkey.zrange(key, 0, -1):
                valkey.zincrby(key, -60, str(member))
        assert "data-seen" in of(hers, "bob").attrs
        assert learns(hers) == []  # once is enough


def test_who_leaves_while_postgresql_is_away_is_seen_to_have_left_when_it_is_back(
    environ: dict[str, str], alice: Person, bob: Person, chat: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "GRACE_SECONDS", 0)
    folder = environ["DATABASE_URL"].partition("host=")[2]
    with Proxy(f"{folder}/.s.PGSQL.5432").running() as proxy:
        url = f"postgresql+psycopg://knock@127.0.0.1:{proxy.port}/postgres?sslmode=disable&gssencmode=disable"
        with sites.in_this_process(environ, DATABASE_URL=url) as site, alice.socket(site) as hers:
            with bob.socket(site):
                assert "data-online" in of(hers, "bob").attrs
                proxy.refuse()
            assert learns(hers) == []
            proxy.accept()
            assert "data-seen" in of(hers, "bob").attrs


@pytest.mark.parametrize("hider", ["alice", "bob"])
def test_who_hides_their_presence_sees_nobodys(alice: Person, bob: Person, chat: None, hider: str) -> None:
    people = {"alice": alice, "bob": bob}
    people[hider].http.post("/settings/privacy", data={"hides_presence": "on"})
    with alice.socket() as hers, bob.socket() as his:
        assert learns(hers) + learns(his) == []
        assert [seen_by(alice, "bob"), seen_by(bob, "alice")] == [[], []]
        people[hider].http.post("/settings/privacy")
        other, name = (his, "alice") if hider == "alice" else (hers, "bob")
        assert "data-online" in of(other, name).attrs


def test_hiding_shows_at_once(alice: Person, bob: Person, chat: None) -> None:
    with alice.socket() as hers, bob.socket():
        assert "data-online" in of(hers, "bob").attrs
        bob.http.post("/settings/privacy", data={"hides_presence": "on"})
        hidden = of(hers, "bob").attrs
        assert not {"data-online", "data-seen"} & hidden.keys()


def test_of_two_people_one_of_whom_blocked_the_other_neither_sees_the_other(
    alice: Person, bob: Person, chat: None
) -> None:
    block(bob, alice)
    with alice.socket() as hers, bob.socket() as his:
        assert learns(hers) + learns(his) == []
        assert [seen_by(alice, "bob"), seen_by(bob, "alice")] == [[], []]
        block(bob, alice, "unblock")
        assert is_online(alice, "bob")
        assert is_online(bob, "alice")


def test_a_block_takes_away_what_is_seen_already(alice: Person, bob: Person, chat: None) -> None:
    with alice.socket() as hers, bob.socket() as his:
        assert "data-online" in of(hers, "bob").attrs
        bob.http.post("/chat/alice/block")
        for tab, name in ((hers, "bob"), (his, "alice")):
            # That she came may still be on its way.
            eventually(lambda: not {"data-online", "data-seen"} & of(tab, name).attrs.keys())  # noqa: B023


def test_without_redis_nobody_is_online_and_all_else_works(
    site: Site, alice: Person, bob: Person, chat: None, valkey: redis.Redis, postgres: psycopg.Connection
) -> None:
    with bob.socket():
        eventually(lambda: valkey.exists(presence.ONLINE))
        valkey.flushall()
        assert not is_online(alice, "bob")


def test_typing_shows_in_the_list_too(alice: Person, bob: Person, chat: None) -> None:
    with alice.socket() as hers, bob.socket() as his:
        his.send(action="typing", to="alice")
        frame = hers.next("[hx-target^='#types-in-']")
        assert "bob is typing" in frame.get_text()
