"""Making an account."""

import psycopg
import pytest

from tests.site import Page, Person, Site


def test_a_new_account_has_token_0_and_its_password_only_as_argon2id(site: Site, postgres: psycopg.Connection) -> None:
    answer = Person("Alice", site).register()

    assert (answer.status_code, answer.headers["location"]) == (303, "/login?registered=Alice")
    username, token, password_hash = postgres.execute("SELECT username, token, password_hash FROM users").fetchall()[0]
    assert (username, token) == ("Alice", 0)
    assert password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize("username", ["abc", "a.b-c_9", "x" * 32, "_x_"])
def test_these_are_usernames(site: Site, username: str) -> None:
    assert Person(username, site).register().status_code == 303


@pytest.mark.parametrize(
    ("username", "said"),
    [
        ("", "Choose a username"),
        ("ab", "3 to 32"),
        ("x" * 33, "3 to 32"),
        ("two words", "letters a to z"),
        ("<b>bold</b>", "letters a to z"),
        ("alice\x00", "letters a to z"),
        ("alice\n", "letters a to z"),
        ("жанна", "letters a to z"),
        ("...", "begins and ends"),
        ("___", "begins and ends"),
        ("alice.", "begins and ends"),
        ("-alice", "begins and ends"),
        ("admin", "spoke for the site"),
        ("ADM1N", "spoke for the site"),
        ("support_", "spoke for the site"),
        ("deleted-user-7", "spoke for the site"),
    ],
)
def test_these_are_no_usernames_and_are_kept_in_the_form(site: Site, username: str, said: str) -> None:
    page = Page(Person(username, site).register())

    assert page.status == 422
    assert said in page.errors
    assert page.one("input[name=username]")["value"] == username
    assert page.one("input[name=username]")["aria-invalid"] == "true"


def test_a_name_is_taken_whatever_its_case(site: Site, alice: Person) -> None:
    page = Page(Person("ALICE", site).register())

    assert page.status == 422
    assert "Somebody has this name" in page.errors


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("", "Choose a password"),
        ("short77", "at least 8"),
        ("x" * 257, "at most 256"),
        ("password", "guessed first"),
        ("PassWord", "guessed first"),
        ("12345678", "guessed first"),
    ],
)
def test_these_are_no_passwords(site: Site, password: str, said: str) -> None:
    page = Page(site.client().post("/register", data={"username": "alice", "password": password}))

    assert page.status == 422
    assert said in page.errors
    assert page.one("input[name=username]")["value"] == "alice"


@pytest.mark.parametrize(
    "password", ["  spaces count  ", "ключ и замо́к", "long words " * 23, "tab\tand \x00 and 🗝️", "a'\"; --<>"]
)
def test_a_password_is_taken_exactly(site: Site, password: str) -> None:
    client = site.client()
    assert client.post("/register", data={"username": "alice", "password": password}).status_code == 303

    assert client.post("/login", data={"username": "alice", "password": password.strip() + "x"}).status_code == 422
    if password != password.strip():
        assert client.post("/login", data={"username": "alice", "password": password.strip()}).status_code == 422
    assert client.post("/login", data={"username": "alice", "password": password}).status_code == 303
