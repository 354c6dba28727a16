"""How far a message got: sent, delivered, read, told on Telegram; and what marks it as unread again."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from bs4 import BeautifulSoup, Tag

from tests.doors.test_blocks import block
from tests.site import Person, Tab, eventually


def reached(person: Person, other: str) -> tuple[int, int]:
    """How far the other got, as the page of the chat says."""
    reading = person.page(f"/chat/{other}").one(".reading")
    return int(str(reading["data-delivered"])), int(str(reading["data-read"]))


def state(person: Person) -> str:
    return str(person.page("/").one("#chats li").get("data-state"))


def entry_with(tab: Tab, **data: str) -> Tag:
    """Wait until an entry in the list of that tab says so; a frame may bring several."""
    while True:
        for entry in tab.frame().select("[id^=chat-]"):
            if all(entry.get(f"data-{name}") == value for name, value in data.items()):
                return entry


def test_a_message_is_sent_then_delivered_then_read(alice: Person, bob: Person) -> None:
    bob.http.cookies.set("scripts", "1")  # his page says itself what it has
    alice.post("bob", "one")
    assert (reached(alice, "bob"), state(alice)) == ((0, 0), "sent")
    with alice.socket() as hers, bob.socket() as his:
        alice.post("bob", "two")
        assert his.entry()["data-undelivered"] == "2"
        his.send(action="read", to="alice", delivered="2")
        entry_with(hers, delivered="2", read="0", state="delivered")
        assert (reached(alice, "bob"), state(alice)) == ((2, 0), "delivered")
        his.send(action="read", to="alice", version="1")
        entry_with(hers, delivered="2", read="1", state="delivered")
        his.send(action="read", to="alice", seq="2")
        entry_with(hers, delivered="2", read="2", state="read")
    assert (reached(alice, "bob"), reached(bob, "alice")) == ((2, 2), (2, 2))


def test_the_list_that_comes_back_has_the_last_messages_of_all_chats(
    alice: Person, bob: Person, charlie: Person
) -> None:
    for person in (bob, charlie):
        person.post("alice", "hello")
    with bob.socket() as his:
        entries = alice.http.get("/", headers={"HX-Request": "true"}).text
        assert "undelivered" not in entries
        entry_with(his, state="delivered", read="0")
    assert [state(person) for person in (bob, charlie)] == ["delivered", "delivered"]


@pytest.mark.parametrize("seq", ["9" * 30, "-1", "x", "", "99"])
def test_nobody_has_what_was_not_written(
    alice: Person, bob: Person, charlie: Person, postgres: psycopg.Connection, seq: str
) -> None:
    alice.post("bob", "one")
    bob.http.cookies.set("scripts", "1")
    with bob.socket() as his, charlie.socket() as strange:
        strange.send(action="read", to="alice", delivered="1")
        his.send(action="read", to="alice", delivered=seq)
        assert his.is_open()
        assert strange.is_open()
    [(most,)] = postgres.execute("SELECT max(delivered_seq) FROM participants").fetchall()
    assert most == (1 if seq == "99" else 0)


def test_who_hides_their_reading_sees_nobodys(alice: Person, bob: Person) -> None:
    alice.post("bob", "one")
    bob.page("/chat/alice")
    assert reached(alice, "bob") == (1, 1)
    with alice.socket() as hers:
        bob.http.post("/settings/privacy", data={"hides_reading": "on"})
        entry_with(hers, read="0", state="delivered")
    assert bob.page("/settings").one("[name=hides_reading][checked]")
    bob.post("alice", "two")
    alice.page("/chat/bob")
    assert (reached(alice, "bob"), reached(bob, "alice")) == ((2, 0), (2, 0))
    with alice.socket() as hers, bob.socket() as his:
        bob.http.post("/settings/privacy")
        entry_with(hers, read="2")
        entry_with(his, read="2")


def test_entries_rise_whatever_falls(alice: Person, bob: Person) -> None:
    """A page shows an entry only if it is not older than the one that it has."""
    alice.post("bob", "one")
    bob.page("/chat/alice")

    def editions() -> list[int]:
        return [int(str(person.page("/").one("#chats li")["data-version"])) for person in (alice, bob)]

    before = editions()
    for path, data in (
        ("/settings/privacy", {"hides_reading": "on"}),
        ("/settings/privacy", {}),
        ("/chat/alice/messages/1/unread", {}),
    ):
        bob.http.post(path, data=data)
        after = editions()
        assert all(now > then for now, then in zip(after, before, strict=True)), path
        before = after


def test_marking_as_unread_reaches_every_tab(alice: Person, bob: Person) -> None:
    bob.http.cookies.set("scripts", "1")
    for body in ("one", "two", "three"):
        alice.post("bob", body)
    with alice.socket() as hers, bob.socket() as his:
        his.send(action="read", to="alice", seq="3")
        entry_with(hers, read="3")
        his.send(action="unread", to="alice", seq="2")
        entry_with(hers, read="1", state="delivered")
    assert bob.page("/").one("#chats .unread").get_text().startswith("2")
    assert bob.http.post("/chat/alice/messages/1/unread").headers["location"] == "/"
    assert bob.page("/").one("#chats .unread").get_text().startswith("3")


@pytest.mark.parametrize("seq", ["0", "-5", "x", "9" * 30, "4"])
def test_what_cannot_be_unread_changes_nothing(
    alice: Person, bob: Person, charlie: Person, postgres: psycopg.Connection, seq: str
) -> None:
    for body in ("one", "two", "three"):
        alice.post("bob", body)
    bob.page("/chat/alice")
    assert bob.http.post(f"/chat/alice/messages/{seq}/unread").status_code == 303
    charlie.http.post("/chat/alice/messages/1/unread")
    with bob.socket() as his:
        his.send(action="unread", to="alice", seq=seq)
        assert his.is_open()
    assert postgres.execute("SELECT min(read_seq) FROM participants").fetchall() == [(3,)]


def test_a_blocked_author_does_not_learn_that_messages_are_held(alice: Person, bob: Person) -> None:
    alice.post("bob", "one")
    bob.page("/chat/alice")
    block(bob, alice)
    alice.post("bob", "two")
    bob.page("/chat/alice")
    assert (reached(alice, "bob"), state(alice)) == ((1, 1), "sent")


def test_reading_in_one_tab_reaches_the_others(alice: Person, bob: Person) -> None:
    alice.post("bob", "one")
    with bob.socket() as first, bob.socket() as second:
        first.send(action="read", to="alice", seq="1")
        for tab in (first, second):
            while tab.entry().select(".unread"):
                pass
    eventually(lambda: not bob.page("/").html.select(".unread"))


def test_what_is_read_while_a_list_is_made_stays_read(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    """Of two entries the page keeps the later edition, so the same edition must say the same."""
    alice.post("bob", "one")
    headers = {"HX-Request": "true"}

    def waiting() -> int:
        [(count,)] = postgres.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchall()
        return int(count)

    with bob.socket() as his, ThreadPoolExecutor() as threads:
        with postgres.transaction():
            postgres.execute("SELECT * FROM participants FOR UPDATE")
            his.send(action="read", to="alice", version="1")
            eventually(lambda: waiting() == 1)
            listing = threads.submit(bob.http.get, "/", headers=headers)
            eventually(lambda: waiting() == 2)
        read = his.entry()
        while read.select(".unread"):
            read = his.entry()
    [listed] = BeautifulSoup(listing.result().text, "html.parser").select("[data-order]")
    assert listed.select(".unread")
    assert int(str(listed["data-version"])) < int(str(read["data-version"]))
