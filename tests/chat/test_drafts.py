"""Drafts as the server keeps them: in place of the draft that a page knew, for their author only."""

import json

import psycopg

from tests.site import PASSWORD, Person, eventually


def drafts(postgres: psycopg.Connection) -> list[str]:
    return [draft for (draft,) in postgres.execute("SELECT draft FROM participants ORDER BY user_id")]


def test_a_draft_replaces_only_what_its_page_knew(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    bob.post("alice", "hello")
    with alice.socket() as hers, bob.socket() as his:
        hers.send(action="draft", to="bob", body="her thought", base="")
        eventually(lambda: drafts(postgres) == ["her thought", ""])
        for body, base in (("two", ""), ("x" * 4001, "her thought"), ("a\0b", "her thought"), ("b", "\0")):
            hers.send(action="draft", to="bob", body=body, base=base)
        hers.send(action="draft", to="nobody", body="x", base="")
        his.send(action="draft", to="alice", body="mine", base="")
        eventually(lambda: drafts(postgres) == ["her thought", "mine"])
        assert hers.is_open()
    assert bob.page("/chat/alice").one("#body").get_text().strip() == "mine"
    assert "her thought" not in str(bob.page("/").html)


def test_without_scripts_a_sent_draft_is_gone(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    bob.post("alice", "hello")
    postgres.execute("UPDATE participants SET draft = 'a thought' WHERE user_id = (SELECT min(id) FROM users)")
    assert alice.page("/chat/bob").one("#body").get_text().strip() == "a thought"

    alice.post("bob", "a thought")

    assert drafts(postgres) == ["", ""]


def test_a_draft_is_in_the_file_of_its_author_and_goes_with_the_account(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    bob.post("alice", "hello")
    postgres.execute("UPDATE participants SET draft = 'a thought' WHERE user_id = (SELECT min(id) FROM users)")
    lines = [json.loads(line) for line in alice.http.get("/settings/account/download").text.splitlines()]
    assert {"chat": "bob", "draft": "a thought"} in lines
    assert "a thought" not in bob.http.get("/settings/account/download").text

    form = {"username": "alice", "password": PASSWORD}
    assert alice.http.post("/settings/account/delete", data=form).headers["location"] == "/login"

    assert drafts(postgres) == ["", ""]
