"""Chats under attack: what a page, a frame or a message may do to the other person, and to the site."""

from concurrent.futures import ThreadPoolExecutor

import psycopg

from tests import site as sites
from tests.site import Page, Person

HTMX = {"HX-Request": "true"}


def begun(postgres: psycopg.Connection) -> int:
    ((count,),) = postgres.execute("SELECT count(*) FROM conversations").fetchall()
    return int(count)


def test_looking_at_a_chat_makes_no_conversation(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    page = alice.page("/chat/bob")
    assert (page.status, page.bodies) == (200, [])
    for address in ("after=0", "after=0&first=1", "before=9"):
        assert alice.http.get(f"/chat/bob/messages?{address}", headers=HTMX).status_code == 200
    assert alice.post("bob", "").status_code == 422
    with alice.socket() as hers:
        hers.send(action="typing", to="bob")
        hers.send(action="read", to="bob", version="1")
        hers.write("bob", "  ")
        assert "Write something" in hers.refusal().get_text()
    assert begun(postgres) == 0

    assert alice.post("bob", "hello").status_code == 303
    assert begun(postgres) == 1
    assert bob.page("/chat/alice").bodies == ["hello"]


def test_nobody_learns_that_a_stranger_types(alice: Person, bob: Person) -> None:
    with alice.socket() as hers, bob.socket() as his:
        hers.send(action="typing", to="bob")
        hers.write("bob", "hello")

        assert [message.body for message in sites.messages(his.frame())] == ["hello"]


def test_a_page_that_is_older_than_its_chat_finds_the_first_messages(alice: Person, bob: Person) -> None:
    page = bob.page("/chat/alice")
    log, typing = page.one("ol[id^=messages]")["id"], page.one("p.typing")["id"]
    with bob.socket() as his:
        alice.post("bob", "hello")
        assert f"#{log}" in str(his.next("hx-upsert")["hx-target"]).split(", ")
        with alice.socket() as hers:
            hers.send(action="typing", to="bob")
            assert f"#{typing}" in str(his.next("hx-partial")["hx-target"]).split(", ")

    caught = Page(bob.http.get("/chat/alice/messages?after=0&first=1", headers=HTMX))
    assert caught.bodies == ["hello"]
    assert f"#{log}" in str(caught.one("hx-upsert")["hx-target"]).split(", ")


def test_two_first_messages_at_once_begin_one_chat(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    def post(n: int) -> int:
        author, other = ((alice, "bob"), (bob, "alice"))[n % 2]
        browser = author.site.client(author.cookies)  # a connection of its own, so either process may take it
        return browser.post(f"/chat/{other}/messages", data={"body": str(n), "nonce": str(n)}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(post, range(8))) == {303}

    assert begun(postgres) == 1
    assert sorted(bob.page("/chat/alice").bodies) == [str(n) for n in range(8)]
