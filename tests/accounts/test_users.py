"""All users: everybody registered, found by any part of the name."""

import psycopg
import pytest

from tests.site import Page, Person


def names(page: Page) -> list[str]:
    return [name.get_text() for name in page.html.select("#people .name")]


def test_everybody_is_there_and_leads_to_their_chat(alice: Person, bob: Person, charlie: Person) -> None:
    assert alice.page("/").one("form[action='/users'] button").get_text() == "All users"
    page = alice.page("/users")

    assert names(page) == ["alice", "bob", "charlie"]
    assert [link["href"] for link in page.html.select("#people a")] == ["/chat/bob", "/chat/charlie"]


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("al", ["alice"]),
        ("AL", ["alice"]),
        ("li", []),  # two letters are looked for at the beginning
        ("lic", ["alice"]),
        ("ARLI", ["charlie"]),
        ("lie", ["charlie"]),
        ("charlie", ["charlie"]),
        ("charliee", []),
        ("zzz", []),
        ("'; --", []),
        ("%", []),
        ("a|b:*", []),
        ("  bob ", ["bob"]),
        ("", ["alice", "bob", "charlie"]),
    ],
)
def test_a_part_of_the_name_finds_it(alice: Person, bob: Person, charlie: Person, q: str, found: list[str]) -> None:
    page = Page(alice.http.get("/users", params={"q": q}))

    assert page.status == 200
    assert names(page) == found
    assert page.one("input[name=q]")["value"] == q.strip()
    assert bool(found) != bool(page.html.select("#people .empty"))


def test_many_come_in_pages(alice: Person, postgres: psycopg.Connection) -> None:
    postgres.execute(
        "INSERT INTO users (username, password_hash) SELECT 'User_' || n, '' FROM generate_series(1, 120) n"
    )

    seen: list[str] = []
    page = alice.page("/users?q=user_")
    while True:
        seen += names(page)
        if not (more := page.html.select(".more a")):
            break
        page = alice.page(str(more[0]["href"]))

    assert seen == sorted((f"User_{n}" for n in range(1, 121)), key=str.lower)


def test_to_htmx_it_is_the_list_alone(alice: Person, bob: Person) -> None:
    page = Page(alice.http.get("/users?q=bo", headers={"HX-Request": "true"}))

    assert [name.get_text() for name in page.html.select(".name")] == ["bob"]
    assert not page.html.select("body, #people")


def test_a_part_that_nearly_everybody_has_comes_in_pages_too(alice: Person, postgres: psycopg.Connection) -> None:
    postgres.execute(
        "INSERT INTO users (username, password_hash) SELECT 'person' || n, '' FROM generate_series(10000, 12500) n"
    )

    first = alice.page("/users?q=erson")
    assert names(first) == [f"person{n}" for n in range(10000, 10050)]
    assert names(alice.page(str(first.one(".more a")["href"]))) == [f"person{n}" for n in range(10050, 10100)]
    assert names(alice.page("/users?q=n12500")) == ["person12500"]
