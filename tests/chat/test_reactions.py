"""Reactions: counted by emoji, with the names of those who gave them; nothing is unread and nobody is notified."""

from bs4 import Tag
from psycopg import Connection

from tests.chat.test_changes import HTMX, refused
from tests.site import Page, Person
from web.chat import reactions


def shown(html: Tag) -> list[tuple[str, str, list[str]]]:
    return [
        (str(it["data-emoji"]), str(it["data-count"]), [str(who["data-author"]) for who in it.select("[data-author]")])
        for it in html.select(".reaction")
    ]


def test_reactions_are_counted_and_taken_back(alice: Person, bob: Person, postgres: Connection) -> None:
    alice.post("bob", "hello")
    bob.page("/chat/alice")
    postgres.execute("UPDATE users SET telegram_chat_id = 17, token = 0")
    with alice.socket() as hers, bob.socket() as his:
        his.send(action="react", to="alice", seq="1", emoji="👍")
        assert shown(hers.next(".message")) == [("👍", "1", ["bob"])]
        hers.send(action="react", to="bob", seq="1", emoji="👍")
        his.next(".message")
        assert shown(his.next(".message")) == [("👍", "2", ["bob", "alice"])]
        alice.http.post("/chat/bob/messages/1/reactions", data={"emoji": "🎉"})
        assert shown(his.next(".message")) == [("👍", "2", ["bob", "alice"]), ("🎉", "1", ["alice"])]
        his.send(action="react", to="alice", seq="1", emoji="👍")
        assert shown(his.next(".message")) == [("👍", "1", ["alice"]), ("🎉", "1", ["alice"])]

    page = alice.page("/chat/bob")
    assert shown(page.html) == [("👍", "1", ["alice"]), ("🎉", "1", ["alice"])]
    assert len(page.html.select(".reaction [data-mine]")) == 2
    assert shown(bob.page("/chat/alice/messages?after=1").html) == shown(page.html)
    assert not bob.page("/chat/alice").html.select(".reaction [data-mine]")
    for person in (alice, bob):
        assert not person.page("/").html.select(".unread")
    assert postgres.execute("SELECT count(*) FROM notifications").fetchone() == (0,)


def test_what_is_no_reaction_is_refused(alice: Person, bob: Person, postgres: Connection) -> None:
    alice.post("bob", "hello")
    with bob.socket() as his:
        for emoji in ("", "x", "1", "👍👍", "<b>", "👍" * 4000, "\x00"):
            assert "one emoji" in refused(his, action="react", to="alice", seq="1", emoji=emoji)
        assert "no such message" in refused(his, action="react", to="alice", seq="2", emoji="👍")
    page = Page(bob.http.post("/chat/alice/messages/1/reactions", data={"emoji": "x"}))
    assert (page.status, page.errors) == (422, "A reaction is one emoji.")
    assert bob.http.post("/chat/alice/messages/1/reactions", data={"emoji": "x"}, headers=HTMX).status_code == 422
    assert postgres.execute("SELECT version FROM conversations").fetchone() == (1,)


def test_a_message_has_a_bounded_number_of_reactions(alice: Person, bob: Person) -> None:
    alice.post("bob", "hello")
    many = [chr(0x1F600 + n) for n in range(reactions.KINDS)]
    with bob.socket() as his:
        for emoji in many:
            his.send(action="react", to="alice", seq="1", emoji=emoji)
            assert shown(his.next(".message"))[-1][0] == emoji
        assert "at most 20" in refused(his, action="react", to="alice", seq="1", emoji="👍")
    alice.http.post("/chat/bob/messages/1/reactions", data={"emoji": many[0]})
    assert shown(bob.page("/chat/alice").html)[0] == (many[0], "2", ["bob", "alice"])
