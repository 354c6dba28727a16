"""Leaving with everything that is mine, and nothing that is somebody else's."""

import json
from contextlib import ExitStack

import httpx2 as httpx
import psycopg

from tests import site as sites
from tests.site import PASSWORD, Page, Person, Site

DELETE = "/settings/account/delete"


def test_the_file_holds_everything_that_is_mine(alice: Person, bob: Person, charlie: Person) -> None:
    for n in range(3):
        alice.post("bob", f"number {n}")
    bob.post("alice", "an answer\nof two lines")
    bob.post("charlie", "a secret of bob and charlie")

    answer = alice.http.get("/settings/account/download")
    lines = [json.loads(line) for line in answer.text.splitlines()]

    assert 'filename="knock-alice.jsonl"' in answer.headers["content-disposition"]
    assert lines[0]["account"] == "alice"
    assert [line["address"] for line in lines if "session" in line] == ["127.0.0.1"]
    assert [(line["chat"], line["from"], line["text"]) for line in lines if "chat" in line] == [
        *(("bob", "alice", f"number {n}") for n in range(3)),
        ("bob", "bob", "an answer\nof two lines"),
    ]
    for secret in ("a secret of bob", "$argon2", *alice.cookies.values()):
        assert secret not in answer.text


def test_what_is_held_from_me_is_not_in_my_file(alice: Person, bob: Person) -> None:
    alice.post("bob", "hello")
    bob.http.post("/chat/alice/block")
    alice.post("bob", "held")

    assert "held" in alice.http.get("/settings/account/download").text
    assert "held" not in bob.http.get("/settings/account/download").text
    assert '"blocked":"alice"' in bob.http.get("/settings/account/download").text


def test_a_long_chat_is_whole(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    alice.post("bob", "number 1")
    postgres.execute(
        "INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at) "
        "SELECT conversation_id, n, n, author_id, n::text, 'number ' || n, now() "
        "FROM messages, generate_series(2, 2500) n"
    )
    lines = [json.loads(line) for line in alice.http.get("/settings/account/download").text.splitlines()]

    assert [line["text"] for line in lines if "chat" in line] == [f"number {n}" for n in range(1, 2501)]


def leave(person: Person, password: str = PASSWORD, username: str | None = None) -> httpx.Response:
    return person.http.post(DELETE, data={"username": username or person.username, "password": password})


def test_an_account_is_deleted_with_its_name_and_password_only(alice: Person, bob: Person, site: Site) -> None:
    alice.post("bob", "something to keep")
    for password, said in (
        ("", "Type your password"),
        ("wrong", "not your password"),
        ("x" * 5000, "not your password"),
    ):
        page = Page(leave(alice, password))
        assert (page.status, said in page.errors) == (422, True)
    for username in (" ", "bob", "alice2"):
        page = Page(leave(alice, username=username))
        assert (page.status, "That is not your username." in page.errors) == (422, True)
    assert leave(Person("alice", site)).headers["location"].startswith("/login")

    with alice.sockets() as tabs:
        assert leave(alice, username="Alice ").headers["location"] == "/login"
        assert [tab.close_code() for tab in tabs] == [4401, 4401]

    assert alice.http.get("/").status_code == 303
    assert alice.log_in().status_code == 422
    ((name),) = bob.page("/").chats
    assert name.startswith("deleted-user-")
    assert bob.page(f"/chat/{name}").bodies == ["something to keep"]
    assert "alice" not in bob.page(f"/chat/{name}").html.get_text()


def test_nobody_can_write_to_a_deleted_user(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    alice.post("bob", "hello")
    assert bob.post("alice", "an answer").status_code == 303
    leave(alice)
    ((name),) = bob.page("/").chats

    refused = Page(bob.post(name, "are you there?"))
    assert (refused.status, "was deleted" in refused.errors) == (422, True)
    assert "are you there?" in refused.html.get_text()
    assert "Nobody here has that name" in bob.post("alice", "are you there?").text
    assert postgres.execute("SELECT count(*) FROM messages").fetchone() == (2,)


def test_nobody_takes_the_name_of_a_deleted_user(alice: Person, bob: Person, site: Site) -> None:
    leave(alice)
    for name in ("alice", "ALICE", "aIice"):
        page = Page(Person(name, site).register())
        assert (page.status, "looks like somebody else's" in page.errors) == (422, True), name
    assert Person("alicia", site).register().status_code == 303


def test_slow_downloads_hold_no_database_connection(
    environ: dict[str, str], clean: None, postgres: psycopg.Connection
) -> None:
    """Each stops reading in the middle of megabytes; there are more of them than a process has connections."""
    with sites.in_this_process(environ) as site, ExitStack() as stack:
        alice, _ = site.person("alice"), site.person("bob")
        alice.post("bob", "number 1")
        postgres.execute(
            "INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at) "
            "SELECT conversation_id, n, n, author_id, n::text, repeat('long ', 700), now() "
            "FROM messages, generate_series(2, 4000) n"
        )
        for _ in range(20):
            stack.enter_context(site.client(alice.cookies).stream("GET", "/settings/account/download"))
        assert alice.http.get("/users").status_code == 200
