"""Blocking: nothing of the blocked person arrives, in any way, and they cannot tell."""

import time

import psycopg

from tests import site as sites
from tests.site import Page, Person, messages

HTMX = {"HX-Request": "true"}


def block(me: Person, other: Person, word: str = "block") -> None:
    answer = me.http.post(f"/chat/{other.username}/{word}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/chat/{other.username}")
    time.sleep(1)  # until every process has heard of it


def seen(me: Person, other: Person) -> dict[str, object]:
    """Everything that a browser without JavaScript shows of the chat, as far as both people see the same."""
    page, entries = me.page(f"/chat/{other.username}"), me.page("/")
    older = me.http.get(f"/chat/{other.username}/messages?before=1000", headers=HTMX)
    changed = me.http.get(f"/chat/{other.username}/messages?after=0", headers=HTMX)
    return {
        "chat": page.bodies,
        "older": Page(older).bodies,
        "changed": sorted(Page(changed).bodies),
        "previews": [preview.get_text() for preview in entries.html.select(".preview")],
        "unread": [unread.get_text() for unread in entries.html.select(".unread")],
        "chats": entries.chats,
    }


def test_nothing_of_a_blocked_person_arrives_and_they_see_no_difference(
    alice: Person, bob: Person, charlie: Person, postgres: psycopg.Connection
) -> None:
    alice.post("bob", "one")
    bob.post("alice", "two")
    charlie.post("alice", "newest of all")
    block(alice, bob)
    before = seen(alice, bob)
    assert before["unread"] == ["1 unread"]  # charlie's
    assert before["chats"] == ["charlie", "bob"]

    with alice.sockets() as hers, bob.sockets() as his:
        for tab in (*hers, *his):
            while not tab.hears_nothing_for(1):
                pass  # entries of what was before
        for n, tab in enumerate(his):
            tab.send(action="typing", to="alice")
            nonce = tab.write("alice", f"held {n}", nonce=f"n{n}")
            for other in his:
                shown = other.message()
                assert (shown.body, shown.nonce, shown.author) == (f"held {n}", nonce, "bob")
            tab.write("alice", "again", nonce=f"n{n}")
            assert tab.message() == shown
        assert bob.post("alice", "held by HTTP").headers["location"] == "/chat/alice"
        charlie.post("alice", "the next frame")
        for tab in hers:
            frame = tab.frame()
            assert [message.body for message in messages(frame)] == ["the next frame"]
            assert "charlie" in tab.entry().get_text()
            assert tab.hears_nothing_for(0.5)

    for _ in range(2):  # from PostgreSQL, then from Redis
        mine = seen(bob, alice)
        everything = ["one", "two", "held 0", "held 1", "held by HTTP"]
        assert (mine["chat"], mine["older"], mine["changed"]) == (everything, everything, sorted(everything))
        assert mine["previews"] == ["You: held by HTTP"]
        theirs = seen(alice, bob)
        assert {**theirs, "previews": 0, "unread": 0} == {**before, "previews": 0, "unread": 0}
        assert theirs["previews"] == ["the next frame", "two"]
        assert theirs["unread"] == ["2 unread"]
    page = bob.http.get("/chat/alice").text
    assert "held by" not in page.replace("held by HTTP", "")
    assert "block" not in page.replace("/block", "").replace(">Block<", "").replace('class="block"', "")


def test_a_blocked_persons_first_message_makes_no_chat_for_the_blocker(alice: Person, bob: Person) -> None:
    block(alice, bob)
    assert "You blocked bob" in alice.page("/chat/bob").html.get_text()
    bob.post("alice", "hello?")

    assert bob.page("/").chats == ["alice"]
    assert bob.page("/chat/alice").bodies == ["hello?"]
    assert alice.page("/").chats == []
    assert alice.page("/chat/bob").bodies == []


def test_a_blocker_cannot_write_until_they_unblock(alice: Person, bob: Person) -> None:
    alice.post("bob", "before")
    block(alice, bob)

    page = Page(alice.post("bob", "kept"))
    assert (page.status, page.one("#body").get_text().strip()) == (422, "kept")
    assert "You blocked bob. Unblock them to write." in page.errors
    with alice.socket() as hers, bob.socket() as his:
        hers.write("bob", "kept")
        assert "You blocked bob" in hers.refusal().get_text()
        hers.send(action="typing", to="bob")
        assert hers.is_open()

        bob.post("alice", "held")
        assert his.message().body == "held"
        block(alice, bob, "unblock")
        bob.post("alice", "arrives")
        assert hers.message().body == "arrives"
        hers.write("bob", "an answer")
        assert hers.message().body == "an answer"
        assert [his.message().body for _ in range(2)] == ["arrives", "an answer"]
    assert alice.page("/chat/bob").bodies == ["before", "arrives", "an answer"]
    assert bob.page("/chat/alice").bodies == ["before", "held", "arrives", "an answer"]


def test_what_was_unread_counts_as_read_from_the_block_on(alice: Person, bob: Person) -> None:
    bob.post("alice", "unread")
    assert alice.page("/").one(".unread").get_text() == "1 unread"
    block(alice, bob)
    bob.post("alice", "held")
    assert not alice.page("/").html.select(".unread")

    block(alice, bob, "unblock")
    assert not alice.page("/").html.select(".unread")
    bob.post("alice", "arrives")
    assert alice.page("/").one(".unread").get_text() == "1 unread"
    assert alice.page("/").one(".preview").get_text() == "arrives"


def test_many_held_messages_push_nothing_off_the_page(alice: Person, bob: Person) -> None:
    bob.post("alice", "before")
    bob.page("/chat/alice")
    block(alice, bob)
    for n in range(60):
        bob.post("alice", f"held {n}")

    assert alice.page("/chat/bob").bodies == ["before"]
    assert bob.page("/chat/alice").bodies == [f"held {n}" for n in range(10, 60)]


def test_changes_do_not_get_past_a_block(alice: Person, bob: Person) -> None:
    bob.post("alice", "before")
    block(alice, bob)
    bob.post("alice", "held")

    with alice.socket() as hers, bob.socket() as his:
        his.send(action="edit", to="alice", seq="2", body="held and edited")
        assert his.message().body == "held and edited"
        his.send(action="edit", to="alice", seq="1", body="nasty")
        assert "no longer be changed" in his.refusal().get_text()
        his.send(action="react", to="alice", seq="1", emoji="👎")
        assert "no longer be changed" in his.refusal().get_text()
        hers.send(action="react", to="bob", seq="1", emoji="👍")
        assert "You blocked bob" in hers.refusal().get_text()
        hers.send(action="react", to="bob", seq="2", emoji="👍")
        assert "no such message" in hers.refusal().get_text()
        assert hers.hears_nothing_for(0.5)
    assert alice.http.get("/chat/bob/messages/2").status_code == 404
    assert bob.page("/chat/alice").bodies == ["before", "held and edited"]
    assert alice.page("/chat/bob").bodies == ["before"]


def test_an_answer_to_a_held_message_does_not_show_it(alice: Person, bob: Person) -> None:
    block(alice, bob)
    bob.post("alice", "held")
    with bob.socket() as his:
        his.send(action="send", to="alice", body="held too", nonce="a", reply_to="1")
        assert "held" in his.next(".message-quote").get_text()
        block(alice, bob, "unblock")
        his.send(action="send", to="alice", body="seen", nonce="b", reply_to="1")
        assert his.message().body == "seen"
    page = alice.page("/chat/bob")
    assert page.bodies == ["seen"]
    assert page.html.select(".message-quote") == []


def test_a_held_message_notifies_nobody(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    def pending() -> int:
        ((count,),) = postgres.execute("SELECT count(*) FROM notifications").fetchall()
        return int(count)

    alice.http.get("/")
    block(alice, bob)
    postgres.execute("UPDATE users SET telegram_chat_id = 17, token = 0 WHERE username = 'alice'")
    bob.post("alice", "held")
    assert pending() == 0

    block(alice, bob, "unblock")
    bob.post("alice", "arrives")
    assert pending() == 1


def test_the_settings_list_whom_one_blocks(alice: Person, bob: Person, charlie: Person) -> None:
    block(alice, charlie)
    block(alice, bob)
    block(alice, bob)

    listed = alice.page("/settings").html.select("[aria-labelledby=blocked-title] li a")
    assert [name.get_text() for name in listed] == ["bob", "charlie"]
    form = {"back": "/settings"}
    assert alice.http.post("/chat/bob/unblock", data=form).headers["location"] == "/settings"
    assert not bob.page("/settings").html.select("[aria-labelledby=blocked-title]")
    assert len(alice.page("/settings").html.select("[aria-labelledby=blocked-title] li")) == 1
    assert alice.http.post("/chat/nobody/block").status_code == 404
    assert alice.http.post("/chat/alice/block").status_code == 404


def test_blocking_has_the_pace_of_everything_else(environ: dict[str, str], clean: None) -> None:
    with sites.in_this_process(environ, SOCKET_RATE="1") as site:
        alice, _ = site.person("alice"), site.person("bob")
        statuses = [alice.http.post(f"/chat/bob/{word}").status_code for word in ("block", "unblock") * 3]
    assert 429 in statuses
