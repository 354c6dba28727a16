"""What one keeps for oneself: pinned and muted chats, starred messages, messages to forward."""

import psycopg
import pytest

from tests.chat.test_states import entry_with
from tests.doors.test_blocks import block
from tests.site import PASSWORD, Person
from web.chat import keeping


def names(person: Person) -> list[str]:
    return person.page("/").chats


def entry(person: Person, name: str) -> set[str]:
    """The attributes of that chat's entry."""
    return set(person.page("/").one(f"#chats li:has(a[href='/chat/{name}'])").attrs)


def test_a_pinned_chat_stays_above_the_others(alice: Person, bob: Person, charlie: Person) -> None:
    bob.post("alice", "first")
    charlie.post("alice", "second")
    assert names(alice) == ["charlie", "bob"]
    with alice.socket() as tab:
        answer = alice.http.post("/chat/bob/pin", data={"pinned": "1"})
        assert answer.headers["location"] == "/chat/bob"
        pinned = entry_with(tab, pinned="")
        charlie.post("alice", "third")
        third = entry_with(tab, undelivered="2")
        assert "third" in third.get_text()
        assert int(str(third["data-order"])) < int(str(pinned["data-order"])) < 2**53
    assert names(alice) == ["bob", "charlie"]
    assert names(bob) == ["alice"]
    assert "data-pinned" not in entry(bob, "alice")  # it is the user's own

    alice.http.post("/chat/bob/pin")
    assert names(alice) == ["charlie", "bob"]


def test_pins_are_few_and_the_rest_comes_in_pages(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    postgres.execute(
        "INSERT INTO users (username, password_hash) SELECT 'friend' || n, '' FROM generate_series(1, 75) AS n"
    )
    for n in range(1, 76):
        alice.post(f"friend{n}", "hello")
    for n in range(1, keeping.PINS + 1):
        assert alice.http.post(f"/chat/friend{n}/pin", data={"pinned": "1"}).status_code == 303
    refused = alice.http.post("/chat/friend30/pin", data={"pinned": "1"})
    assert refused.status_code == 422
    assert "20 chats at most" in refused.text

    page = alice.page("/")
    pins = [f"friend{n}" for n in range(keeping.PINS, 0, -1)]
    assert page.chats == pins + [f"friend{n}" for n in range(75, 25, -1)]
    more = str(page.one(".list .more a")["href"])
    assert alice.page(more).chats == [f"friend{n}" for n in range(25, 20, -1)]


@pytest.mark.parametrize(("time", "hours"), [("hour", 1), ("day", 24), ("always", None), ("7 years", 0), ("", 0)])
def test_a_chat_is_muted_for_a_time(
    alice: Person, bob: Person, postgres: psycopg.Connection, time: str, hours: int | None
) -> None:
    bob.post("alice", "hello")
    alice.http.post("/chat/bob/mute", data={"time": time})
    [(left,)] = postgres.execute(
        "SELECT extract(epoch FROM muted_until - now()) / 3600 FROM participants WHERE muted_until IS NOT NULL"
    ).fetchall() or [(0,)]
    assert left > 10**6 if hours is None else hours - 0.01 < left <= hours
    assert ("data-muted" in entry(alice, "bob")) == (hours != 0)
    assert "data-muted" not in entry(bob, "alice")
    alice.http.post("/chat/bob/mute")
    assert "data-muted" not in entry(alice, "bob")


def test_a_muted_chat_is_muted_until_the_time_is_over(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    bob.post("alice", "hello")
    alice.http.post("/chat/bob/mute", data={"time": "hour"})
    postgres.execute("UPDATE participants SET muted_until = now() WHERE muted_until IS NOT NULL")
    assert "data-muted" not in entry(alice, "bob")
    assert "Mute for an hour" in alice.http.get("/chat/bob").text


def starred(person: Person) -> list[str]:
    return [str(link["href"]) for link in person.page("/starred").html.select(".hits a")]


def test_messages_are_starred_and_listed(alice: Person, bob: Person, charlie: Person) -> None:
    for body in ("one", "two", "three"):
        alice.post("bob", body)
    charlie.post("alice", "four")
    with alice.socket() as tab:
        assert alice.http.post("/chat/bob/messages/2/star").headers["location"] == "/chat/bob?around=2"
        entry_with(tab, starred="2")
        tab.send(action="star", to="bob", seq="3")
        entry_with(tab, starred="2 3")
        tab.send(action="star", to="charlie", seq="1")
        entry_with(tab, starred="1")
        tab.send(action="star", to="bob", seq="2")
        entry_with(tab, starred="3")
    assert starred(alice) == ["/chat/charlie?around=1", "/chat/bob?around=3"]
    assert starred(bob) == starred(charlie) == []
    assert "Take the star away" in alice.http.get("/chat/bob/messages/3").text
    assert "Take the star away" not in alice.http.get("/chat/bob/messages/2").text

    alice.http.post("/chat/bob/messages/3/remove")
    assert starred(alice) == ["/chat/charlie?around=1"]


@pytest.mark.parametrize("seq", ["0", "99", "9" * 30, "-1", "x"])
def test_a_star_on_nothing_changes_nothing(alice: Person, bob: Person, postgres: psycopg.Connection, seq: str) -> None:
    alice.post("bob", "one")
    assert alice.http.post(f"/chat/bob/messages/{seq}/star").status_code == 404
    with alice.socket() as tab:
        tab.send(action="star", to="bob", seq=seq)
        assert "no such message" in tab.refusal().get_text()
        tab.send(action="star", to="nobody", seq="1")
        assert tab.is_open()
    assert postgres.execute("SELECT 1 FROM participants WHERE starred IS NOT NULL").fetchall() == []


def test_nobody_sees_or_stars_what_is_held_from_them(alice: Person, bob: Person) -> None:
    alice.post("bob", "before")
    block(bob, alice)
    alice.post("bob", "held")
    assert bob.http.post("/chat/alice/messages/2/star").status_code == 404
    assert bob.http.post("/chat/alice/messages/2/forward", data={"to": "alice"}).status_code == 404


def test_a_message_is_forwarded_as_a_quote_in_the_composer(alice: Person, bob: Person, charlie: Person) -> None:
    bob.post("alice", "the address\nis 4 Hill Road")
    charlie.post("alice", "where?")
    page = alice.page("/chat/bob/messages/1")
    assert [option["value"] for option in page.html.select("#forward option")] == ["charlie"]

    answer = alice.http.post("/chat/bob/messages/1/forward", data={"to": "charlie"})

    assert answer.headers["location"] == "/chat/charlie?end=1"
    assert alice.page("/chat/charlie").one("#body").get_text().strip() == "> the address\n> is 4 Hill Road"
    alice.http.post("/chat/bob/messages/1/forward", data={"to": "charlie"})
    assert alice.page("/chat/charlie").one("#body").get_text().count("Hill Road") == 2
    for nobody in ("", "nobody", "alice", "x" * 500):
        assert alice.http.post("/chat/bob/messages/1/forward", data={"to": nobody}).status_code == 422
    assert charlie.http.post("/chat/bob/messages/1/forward", data={"to": "alice"}).status_code == 404
    bob.http.post("/chat/alice/messages/1/remove")
    removed = alice.http.post("/chat/bob/messages/1/forward", data={"to": "charlie"})
    assert removed.status_code == 422
    assert "was removed" in removed.text


def test_strangers_keep_nothing(alice: Person, bob: Person, charlie: Person, postgres: psycopg.Connection) -> None:
    alice.post("bob", "one")
    for action in ("pin", "mute"):
        charlie.http.post(f"/chat/bob/{action}", data={"pinned": "1", "time": "hour"})
        assert alice.site.client().post(f"/chat/bob/{action}").headers["location"].startswith("/login")
    assert (
        postgres.execute("SELECT 1 FROM participants WHERE num_nonnulls(pinned_at, muted_until) > 0").fetchall() == []
    )


def test_a_deleted_account_keeps_nothing(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    bob.post("alice", "one")
    alice.http.post("/chat/bob/pin", data={"pinned": "1"})
    alice.http.post("/chat/bob/mute", data={"time": "always"})
    alice.http.post("/chat/bob/messages/1/star")
    kept = "SELECT 1 FROM participants WHERE num_nonnulls(pinned_at, muted_until, starred) > 0"
    assert len(postgres.execute(kept).fetchall()) == 1

    alice.http.post("/settings/account/delete", data={"username": "alice", "password": PASSWORD})

    assert postgres.execute(kept).fetchall() == []
