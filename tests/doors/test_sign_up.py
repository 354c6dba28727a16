"""Making accounts: how many, by whom, under which names, with which passwords."""

import re
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import parse
from sqlalchemy import create_engine, text

from tests import site as sites
from tests.site import PASSWORD, Page, Person, Site
from web.accounts import limiter, names
from web.data import models


def register(site: Site, username: str, **more: str) -> Page:
    return Page(site.client().post("/register", data={"username": username, "password": PASSWORD, **more}))


def test_an_address_makes_a_bounded_number_of_accounts(
    environ: dict[str, str], clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "SIGN_UPS", (parse("3 per hour"),))
    with sites.in_this_process(environ, LIMITS="on") as site:
        found = [register(site, f"newcomer-{name}") for name in "abcd"]
        taken = register(site, "newcomer-a")

    assert [page.status for page in found] == [303] * 3 + [429]
    assert "Try again in 60 minutes" in found[3].errors
    assert found[3].one("input[name=username]")["value"] == "newcomer-d"
    assert taken.status == 429  # nor does it learn which names are taken


@pytest.mark.parametrize("username", ["aIice", "al1ce", "ALICE", "alice_"])
def test_no_name_looks_like_somebodys(site: Site, alice: Person, username: str) -> None:
    page = register(site, username)

    assert page.status == 422
    assert ("Somebody has this name" if username == "ALICE" else "looks like somebody else's") in page.errors
    assert page.one("input[name=username]")["value"] == username


@pytest.mark.parametrize("username", ["alice2", "alicia", "al-ice", "malice"])
def test_these_look_like_nobody(site: Site, alice: Person, username: str) -> None:
    assert register(site, username).status == 303


def test_postgresql_and_python_agree_on_what_looks_alike(environ: dict[str, str]) -> None:
    engine = create_engine(environ["DATABASE_URL"])
    with engine.connect() as connection:
        query = text(f"SELECT {models.LOOKALIKE} FROM (SELECT CAST(:name AS text) AS username) AS one")

        @given(st.from_regex(names.USERNAME, fullmatch=True) | st.text("1lI0oO_.-rnvw", min_size=3, max_size=32))
        def agree(name: str) -> None:
            assert connection.scalar(query, {"name": name}) == names.lookalike(name)

        agree()
    engine.dispose()


def test_a_space_that_a_phone_added_is_no_part_of_the_name(site: Site) -> None:
    assert register(site, "alice ").status == 303
    form = {"username": " alice ", "password": PASSWORD}
    assert site.client().post("/login", data=form).status_code == 303


@pytest.mark.parametrize("password", ["aaaaaaaa", "Password1!", "charlotte1", "Charlotte", "knockknock", "12345678910"])
def test_a_password_that_is_guessed_soon_is_refused(site: Site, password: str) -> None:
    page = Page(site.client().post("/register", data={"username": "charlotte", "password": password}))

    assert page.status == 422
    assert "guessed first" in page.errors
    assert page.one("input[name=username]")["value"] == "charlotte"


def test_a_new_password_is_judged_likewise(alice: Person) -> None:
    page = Page(alice.http.post("/settings/password", data={"current": PASSWORD, "password": "Password1!"}))

    assert page.status == 422
    assert "guessed first" in page.errors


@pytest.fixture
def private(environ: dict[str, str], postgres: psycopg.Connection, clean: None) -> Iterator[Site]:
    """A site with one user, alice, to which one comes by invitation."""
    with sites.in_this_process(environ, SIGN_UP="open") as site:
        Person("alice", site).register()
    with sites.in_this_process(environ, SIGN_UP="invite") as site:
        yield site


def invitation(person: Person, note: str = "for bob") -> str:
    page = Page(person.http.post("/settings/invitations", data={"note": note}))
    (code,) = re.findall(r"invitation=([\w-]+)", page.one("#invitations .notice").get_text())
    return str(code)


def test_without_an_invitation_nobody_registers(private: Site, postgres: psycopg.Connection) -> None:
    assert "You need an invitation" in Page(private.client().get("/register")).html.get_text()
    for code in ("", "guessed", "x" * 5000):
        assert register(private, "mallory", invitation=code).status == 403
    assert postgres.execute("SELECT count(*) FROM users").fetchall() == [(1,)]


def test_an_invitation_is_good_once_and_its_maker_sees_who_came(private: Site) -> None:
    alice = Person("alice", private)
    alice.log_in()
    code = invitation(alice)
    page = Page(private.client().get(f"/register?invitation={code}"))
    assert page.one("input[name=invitation]")["value"] == code
    assert code not in alice.page("/settings").html.get_text()

    assert register(private, "no", invitation=code).status == 422  # a mistake does not use it up
    assert register(private, "bob", invitation=code).status == 303
    assert register(private, "mallory", invitation=code).status == 403
    assert "was used" in Page(private.client().get(f"/register?invitation={code}")).html.get_text()
    assert re.search(r"for bob\s+used by bob", alice.page("/settings").one("#invitations").get_text())


def test_an_invitation_is_withdrawn_by_its_maker_only_and_ends_by_itself(
    private: Site, postgres: psycopg.Connection
) -> None:
    alice = Person("alice", private)
    alice.log_in()
    register(private, "bob", invitation=invitation(alice))
    bob = Person("bob", private)
    bob.log_in()
    first, second = invitation(alice), invitation(alice)
    withdraw = str(alice.page("/settings").html.select("#invitations li form")[0]["action"])

    bob.http.post(withdraw)
    assert private.client().get(f"/register?invitation={second}").text.count("<form") == 1
    alice.http.post(withdraw)
    assert register(private, "charlie", invitation=second).status == 403

    postgres.execute("UPDATE invitations SET expires_at = now() - interval '1 second'")
    assert register(private, "charlie", invitation=first).status == 403


def test_a_user_has_a_bounded_number_of_open_invitations(private: Site) -> None:
    alice = Person("alice", private)
    alice.log_in()
    for _ in range(20):
        invitation(alice)

    page = Page(alice.http.post("/settings/invitations", data={"note": "one more"}))
    assert page.status == 422
    assert "Withdraw one first" in page.errors


def test_a_closed_site_takes_nobody(environ: dict[str, str], clean: None) -> None:
    with sites.in_this_process(environ, SIGN_UP="closed") as site:
        assert register(site, "alice").status == 403
        assert "Nobody can register" in Page(site.client().get("/register")).html.get_text()


def test_where_everybody_may_register_there_are_no_invitations(alice: Person) -> None:
    assert alice.http.post("/settings/invitations", data={"note": ""}).status_code == 404
    assert alice.page("/settings").html.select("#invitations") == []
