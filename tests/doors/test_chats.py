"""Chats under attack: what a page, a frame or a message may do to the other person, and to the site."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import redis

from tests import site as sites
from tests.site import Page, Person, messages
from web.chat.formatting import LINKS

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
    assert f"#{log}" in str(caught.html.select("hx-upsert")[0]["hx-target"]).split(", ")


def test_two_first_messages_at_once_begin_one_chat(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    def post(n: int) -> int:
        author, other = ((alice, "bob"), (bob, "alice"))[n % 2]
        browser = author.site.client(author.cookies)  # a connection of its own, so either process may take it
        return browser.post(f"/chat/{other}/messages", data={"body": str(n), "nonce": str(n)}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(post, range(8))) == {303}

    assert begun(postgres) == 1
    assert sorted(bob.page("/chat/alice").bodies) == [str(n) for n in range(8)]


MEGABYTE = 1024 * 1024
LONGEST = [("😀.co " * 700)[:4000], '"' * 4000, "http://" + "😀" * 3990, "㍿" * 4000]


@pytest.mark.parametrize("body", [LONGEST[0], "a@b.co " * 500, "http://a.b " * 300])
def test_a_message_has_fifty_links_at_most(alice: Person, bob: Person, body: str) -> None:
    alice.post("bob", body)

    page = bob.page("/chat/alice")
    assert len(page.html.select(".message-body a")) == LINKS
    assert page.bodies == [body]


def test_no_answer_grows_with_what_somebody_writes(
    alice: Person, bob: Person, postgres: psycopg.Connection, valkey: redis.Redis
) -> None:
    count = 120
    for n in range(count):
        assert alice.post("bob", LONGEST[n % len(LONGEST)]).status_code == 303

    read: list[int] = []
    page = bob.page("/chat/alice?end=1")
    while True:
        assert len(page.response.content) < MEGABYTE
        read = [message.seq for message in messages(page.html)] + read
        if not (more := page.html.select(".more a[href*=before]")):
            break
        page = bob.page(str(more[0]["href"]))
    assert read == list(range(1, count + 1))

    caught: list[int] = []
    after: object = 0
    while True:
        changes = Page(bob.http.get(f"/chat/alice/messages?after={after}", headers=HTMX))
        assert len(changes.response.content) < MEGABYTE
        caught += [message.seq for message in messages(changes.html)]
        after = changes.one("#cursor")["value"]
        if not changes.html.select("#catch-up"):
            break
    assert caught == read

    for n in range(80):  # as long as a message may be to be appended
        alice.post("bob", ('"' if n % 2 else "x") * (2000 if n % 2 else 4000))
        bob.page("/chat/alice")
    (key,) = valkey.scan_iter("latest:*")
    assert sum(len(str(item).encode()) for item in valkey.lrange(str(key), 0, -1)) < MEGABYTE
    assert bob.page("/chat/alice").status == 200


def test_what_was_written_when_the_session_had_ended_stays_in_a_form(alice: Person, bob: Person) -> None:
    body = "half a thought & more?\nyes"
    alice.http.cookies.clear()

    answer = alice.post("bob", body, nonce="n")
    page = Page(answer)
    assert (page.status, "location" in answer.headers, "set-cookie" in answer.headers) == (401, False, False)
    assert "Your session has ended" in page.html.get_text()
    assert page.one("a[href='/login']")["target"] == "_blank"
    kept = {str(field["name"]): field.get("value") or field.get_text() for field in page.html.select("form [name]")}
    kept["body"] = str(kept["body"]).removeprefix("\n")  # as browsers do
    assert kept == {"body": body, "nonce": "n"}
    assert bob.page("/chat/alice").bodies == []

    alice.log_in()
    again = alice.http.post(str(page.one("form")["action"]), data=kept)
    assert again.status_code == 303
    assert bob.page("/chat/alice").bodies == [body]
    assert alice.page("/chat/bob?draft=of+another+site").one("#body").get_text().strip() == ""


def test_a_page_learns_that_its_session_has_ended_and_keeps_the_message(alice: Person, bob: Person) -> None:
    alice.http.cookies.clear()

    answer = alice.http.post("/chat/bob/messages", data={"body": "kept", "nonce": "n"}, headers=HTMX)

    assert (answer.status_code, "hx-redirect" in answer.headers) == (401, False)
    refusal = Page(answer).one(".send-refused")
    assert (refusal["data-nonce"], refusal.has_attr("data-retry")) == ("n", True)
    assert "kept" not in str(answer.headers)


def test_a_new_account_begins_ten_chats_an_hour(
    environ: dict[str, str], clean: None, postgres: psycopg.Connection
) -> None:
    with sites.in_this_process(environ, LIMITS="on") as site:
        alice, bob = site.person("alice"), site.person("bob")
        names = [f"person{n}" for n in range(14)]
        for name in names:
            postgres.execute("INSERT INTO users (username, password_hash) VALUES (%s, '')", [name])
        for name in names[:10]:
            assert alice.post(name, "hello").status_code == 303
            assert alice.post(name, "again").status_code == 303
        assert alice.http.get(f"/chat/{names[10]}").status_code == 200

        page = Page(alice.post(names[10], "kept"))
        assert (page.status, page.one("#body").get_text().strip()) == (422, "kept")
        assert "can begin 10 chats an hour" in page.errors
        with alice.socket() as hers:
            nonce = hers.write(names[11], "kept")
            assert hers.refusal()["data-nonce"] == nonce
        assert begun(postgres) == 10
        assert bob.post("alice", "a chat that somebody else begins").status_code == 303
        assert alice.post("bob", "an answer").status_code == 303
        assert alice.post(names[3], "a chat that there is").status_code == 303

        postgres.execute("UPDATE users SET created_at = now() - interval '25 hours' WHERE username = 'alice'")
        for name in names[10:]:
            assert alice.post(name, "hello").status_code == 303
