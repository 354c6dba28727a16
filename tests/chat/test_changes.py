"""Edits and removals: who may make them, and what every reader of a message then finds."""

import psycopg
import redis

from tests.chat.test_cache import cached
from tests.site import Page, Person, Tab, eventually

HTMX = {"HX-Request": "true"}


def refused(tab: Tab, **frame: str) -> str:
    """Why the frame is refused."""
    tab.send(**frame)
    return tab.refusal().get_text()


def test_an_edit_reaches_pages_the_cached_list_and_the_chat_list(
    alice: Person, bob: Person, valkey: redis.Redis
) -> None:
    for body in ("one", "two", "thre"):
        alice.post("bob", body)
    bob.page("/chat/alice")
    eventually(lambda: len(cached(valkey) or []) == 4)
    with alice.socket() as hers, alice.socket() as her_other, bob.socket() as his:
        hers.send(action="edit", to="bob", seq="3", body="three")
        for tab in (hers, her_other, his):
            message = tab.message()
            assert (message.seq, message.version, message.body) == (3, 4, "three")
        assert "three" in his.entry().get_text()

    eventually(lambda: (cached(valkey) or [""])[0] == "4:3")
    held = cached(valkey) or []
    assert [body in item for body, item in zip(("one", "two", "three"), held[1:], strict=True)] == [True, True, True]
    page = bob.page("/chat/alice")
    assert page.bodies == ["one", "two", "three"]
    assert page.one("[data-edited]")["data-seq"] == "3"


def test_a_form_edits_and_shows_earlier_texts_to_both(alice: Person, bob: Person, charlie: Person) -> None:
    alice.post("bob", "frist")
    page = alice.page("/chat/bob")
    assert page.one(".bubble > a")["href"] == "?message=1"
    form = alice.page("/chat/bob?message=1").one("form:has(#edit)")
    assert form["action"] == "/chat/bob/messages/1"
    answer = alice.http.post(str(form["action"]), data={"body": "first"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/chat/bob?around=1")
    assert 'id="message-' in alice.http.post(str(form["action"]), data={"body": "first!"}, headers=HTMX).text

    for person, name in ((alice, "bob"), (bob, "alice")):
        page = person.page(f"/chat/{name}?message=1")
        assert [text.get_text() for text in page.html.select(".earlier .message-body")] == ["frist", "first"]
        assert page.bodies == ["first!"]
    assert not bob.page("/chat/alice/messages/1").html.select("#edit")
    for method in ("GET", "POST"):
        assert charlie.http.request(method, "/chat/bob/messages/1").status_code == 404


def test_what_was_removed_is_gone_and_cannot_be_changed_again(
    alice: Person, bob: Person, postgres: psycopg.Connection, valkey: redis.Redis
) -> None:
    alice.post("bob", "a sekret")
    alice.http.post("/chat/bob/messages/1", data={"body": "a secret"})
    bob.post("alice", "what?")
    bob.http.post("/chat/alice/messages/1/reactions", data={"emoji": "👍"})
    bob.page("/chat/alice")
    with bob.socket() as his, alice.socket() as hers:
        hers.send(action="remove", to="bob", seq="1")
        assert his.message().body == ""
        assert "was removed" in refused(hers, action="edit", to="bob", seq="1", body="back again")
        assert "was removed" in refused(hers, action="remove", to="bob", seq="1")
        assert "was removed" in refused(his, action="react", to="alice", seq="1", emoji="👍")

    assert postgres.execute("SELECT body, version, reactions FROM messages WHERE seq = 1").fetchall() == [("", 5, None)]
    assert postgres.execute("SELECT count(*) FROM earlier_texts").fetchone() == (0,)
    eventually(lambda: (cached(valkey) or [""])[0] == "5:2")
    assert "a s" not in str(cached(valkey))
    for page in (bob.page("/chat/alice"), bob.page("/chat/alice?message=1"), bob.page("/")):
        assert "a secret" not in page.response.text
    assert bob.page("/chat/alice").one("[data-removed]")["data-seq"] == "1"


def test_the_chat_list_does_not_show_what_was_removed(alice: Person, bob: Person) -> None:
    alice.post("bob", "a secret")
    with bob.socket() as his:
        alice.http.post("/chat/bob/messages/1/remove")
        entry = his.entry()
        while not entry.select(".preview i"):
            entry = his.entry()
    assert "secret" not in entry.get_text()


def test_nobody_changes_what_somebody_else_wrote_or_what_is_not_there(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    alice.post("bob", "hers")
    with bob.socket() as his:
        assert "Only its author" in refused(his, action="edit", to="alice", seq="1", body="his")
        assert "Only its author" in refused(his, action="remove", to="alice", seq="1")
    with alice.socket() as hers:
        for seq in ("2", "0", "-1", "x", "9" * 30, ""):
            assert "no such message" in refused(hers, action="edit", to="bob", seq=seq, body="nothing there")
        assert "Nobody here" in refused(hers, action="edit", to="nobody", seq="1", body="nobody")
        assert "characters" in refused(hers, action="edit", to="bob", seq="1", body="x" * 4001)
        assert "Write something" in refused(hers, action="edit", to="bob", seq="1", body=" ")
        assert "NUL" in refused(hers, action="edit", to="bob", seq="1", body="\x00")
    page = Page(alice.http.post("/chat/bob/messages/1", data={"body": "y" * 4001}))
    assert (page.status, page.one("#edit").get_text(strip=True)) == (422, "y" * 4001)
    assert "4,001 characters" in page.errors
    for seq in ("2", "x", "9" * 5000):
        assert alice.http.post(f"/chat/bob/messages/{seq}/remove").status_code == 404

    assert postgres.execute("SELECT body, version FROM messages").fetchall() == [("hers", 1)]
    assert postgres.execute("SELECT version FROM conversations").fetchone() == (1,)


def test_an_edit_that_meets_a_newer_one_tells_its_author(alice: Person, bob: Person) -> None:
    alice.post("bob", "one")
    bob.http.post("/chat/alice/messages/1/reactions", data={"emoji": "👍"})  # which is no newer text
    with alice.socket() as hers:
        hers.send(action="edit", to="bob", seq="1", body="two", version="1")
        seen = hers.message()
        assert "another place" in refused(hers, action="edit", to="bob", seq="1", body="three", version="1")
        hers.send(action="edit", to="bob", seq="1", body="three", version=str(seen.version))
        assert hers.message().body == "three"
        hers.send(action="edit", to="bob", seq="1", body="three")  # answered, though it changes nothing
        assert hers.message().version == seen.version + 1


def test_a_catch_up_leaves_out_changes_of_messages_that_the_page_does_not_show(alice: Person, bob: Person) -> None:
    for body in ("one", "two", "three"):
        alice.post("bob", body)
    for seq, body in ((1, "one, edited"), (3, "three, edited")):
        alice.http.post(f"/chat/bob/messages/{seq}", data={"body": body})

    assert bob.page("/chat/alice/messages?after=3").bodies == ["one, edited", "three, edited"]
    page = bob.page("/chat/alice/messages?after=3&first=2")
    assert page.bodies == ["three, edited"]
    assert page.one("#cursor")["value"] == "5"


def test_a_message_that_was_edited_is_answered_as_it_is_now_when_it_is_sent_again(alice: Person, bob: Person) -> None:
    alice.post("bob", "frist", nonce="n")
    alice.http.post("/chat/bob/messages/1", data={"body": "first"})
    bob.http.post("/chat/alice/messages/1/reactions", data={"emoji": "👍"})
    with alice.socket() as hers:
        hers.write("bob", "frist", nonce="n")
        frame = hers.next(".message")
        assert frame.select(".message-body")[0].get_text() == "first"
        assert frame.select(".reaction")


def test_a_chat_leaves_the_list_until_its_next_message(alice: Person, bob: Person) -> None:
    bob.post("alice", "hello")
    with alice.socket() as hers:
        assert alice.http.post("/chat/bob/hide").headers["location"] == "/"
        assert str(hers.next("hx-partial")["hx-target"]).startswith("#chat-")
        bob.http.post("/chat/alice/messages/1/reactions", data={"emoji": "👍"})
        assert alice.page("/").chats == []
        assert alice.page("/chat/bob").bodies == ["hello"]
        assert bob.page("/").chats == ["alice"]
        bob.post("alice", "again")
        assert "again" in hers.entry().get_text()
    assert alice.page("/").chats == ["bob"]
