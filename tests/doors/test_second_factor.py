"""The second factor: a password alone opens nothing, and no code is good twice."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pyotp
import pytest
from limits import parse

from tests import site as sites
from tests.site import PASSWORD, TOP, Page, Person, Site
from web.accounts import limiter, second_factor

PAGE = "/settings/second-factor"


class Clock:
    """The time by which codes are compared."""

    now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(second_factor, "time", clock)
    return clock


@pytest.fixture
def site(environ: dict[str, str], clean: None, clock: Clock) -> Iterator[Site]:
    with sites.in_this_process(environ, LIMITS="on") as site:
        yield site


class App:
    """The app on the phone. Each code is of later 30 seconds than the one before, unless it is asked for again."""

    def __init__(self, secret: str, clock: Clock) -> None:
        self._app, self._clock = pyotp.TOTP(secret), clock

    def again(self) -> str:
        return self._app.at(int(self._clock.now))

    def code(self) -> str:
        self._clock.now += second_factor.STEP
        return self.again()


def offer(person: Person) -> Page:
    return Page(person.http.post(f"{PAGE}/begin", data={"password": PASSWORD}))


def turn_on(person: Person, clock: Clock) -> tuple[App, list[str]]:
    shown = offer(person)
    app = App(shown.one("#pane strong").get_text().replace(" ", ""), clock)
    form = {"offer": str(shown.one("input[name=offer]")["value"]), "code": app.code()}
    page = Page(person.http.post(f"{PAGE}/on", data=form))
    return app, [code.get_text() for code in page.html.select("main code")]


def first_step(person: Person, next: str = "") -> dict[str, str]:
    """The form of the second step."""
    page = Page(person.log_in(next))
    assert page.status == 200
    return {str(field["name"]): str(field["value"]) for field in page.html.select("input[type=hidden]")}


def second_step(person: Person, code: str, form: dict[str, str] | None = None) -> Page:
    return Page(person.http.post("/login/code", data={**(form or first_step(person)), "code": code}))


def sessions(postgres: psycopg.Connection) -> int:
    return int(postgres.execute("SELECT count(*) FROM sessions").fetchall()[0][0])


def test_a_login_takes_the_code_too(alice: Person, site: Site, clock: Clock, postgres: psycopg.Connection) -> None:
    app, _ = turn_on(alice, clock)
    browser = Person("alice", site)

    form = first_step(browser, next="/users")
    assert sessions(postgres) == 1
    assert not browser.cookies
    wrong = second_step(browser, "000000", form)
    assert (wrong.status, wrong.one("input[name=code]")["aria-invalid"]) == (422, "true")
    assert "not right" in wrong.errors

    answer = second_step(browser, app.code(), form).response
    assert (answer.status_code, answer.headers["location"]) == (303, "/users")
    assert browser.http.get("/").status_code == 200


def test_a_code_is_good_once(alice: Person, site: Site, clock: Clock, postgres: psycopg.Connection) -> None:
    app, _ = turn_on(alice, clock)
    assert second_step(Person("alice", site), app.again()).status == 422  # it turned the factor on

    code, forms = app.code(), [first_step(Person("alice", site)) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda form: second_step(Person("alice", site), code, form).status, forms))
    assert sorted(found) == [303] + [422] * 7
    assert sessions(postgres) == 2


def test_a_code_of_another_time_or_another_user_is_wrong(alice: Person, bob: Person, site: Site, clock: Clock) -> None:
    app, _ = turn_on(alice, clock)
    his, _ = turn_on(bob, clock)
    old = app.code()
    clock.now += 2 * second_factor.STEP
    form = first_step(Person("alice", site))

    assert [second_step(site_of(alice), code, form).status for code in (old, his.code(), "", "ä", "1" * 3000)] == [
        422
    ] * 5


def site_of(person: Person) -> Person:
    """The same user's new browser."""
    return Person(person.username, person.site)


def test_a_recovery_code_is_good_once(alice: Person, clock: Clock, postgres: psycopg.Connection) -> None:
    _, codes = turn_on(alice, clock)
    assert len(set(codes)) == second_factor.RECOVERY_CODES
    kept = str(postgres.execute("SELECT * FROM recovery_codes").fetchall())
    assert not any(code in kept or code.replace("-", "") in kept for code in codes)

    typed = codes[0].upper().replace("-", " ")
    assert [second_step(site_of(alice), typed).status for _ in range(2)] == [303, 422]
    assert "9 recovery codes left" in alice.page(PAGE).one("main").get_text()


def test_no_ticket_but_a_fresh_one_of_ours_is_good(
    alice: Person, clock: Clock, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = str(offer(alice).one("input[name=offer]")["value"])
    app, _ = turn_on(alice, clock)
    form = first_step(site_of(alice), next="/users")

    for ticket in ("", "forged", form["ticket"][:-2], form["ticket"] * 2, other, alice.cookies["session"]):
        answer = second_step(site_of(alice), app.code(), {**form, "ticket": ticket})
        assert (answer.status, answer.html.select("input[name=ticket]")) == (422, [])
    monkeypatch.setattr(second_factor, "LIFE", -1)
    late = second_step(site_of(alice), app.code(), form)
    assert "within five minutes" in late.errors
    assert late.one("input[name=username]")["value"] == "alice"
    assert late.one("input[name=next]")["value"] == "/users"
    monkeypatch.setattr(second_factor, "LIFE", 300)

    postgres.execute("UPDATE users SET password_hash = replace(password_hash, '$m=', '$m =')")
    assert second_step(site_of(alice), app.code(), form).status == 422
    assert sessions(postgres) == 1


def test_guessing_codes_is_slowed(alice: Person, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    app, _ = turn_on(alice, clock)
    stranger = site_of(alice)
    form = first_step(stranger)

    assert [second_step(stranger, "000000", form).status for _ in range(11)] == [422] * 10 + [429]
    assert second_step(stranger, app.code(), form).status == 429
    assert second_step(alice, app.code()).status == 303  # a known device

    monkeypatch.setattr(limiter, "FAILURES_OF_AN_ACCOUNT", parse("3 per day"))
    form = first_step(alice)
    assert [second_step(alice, "000000", form).status for _ in range(4)] == [422] * 3 + [429]


def test_turning_it_off_takes_the_password_and_a_code(
    alice: Person, clock: Clock, postgres: psycopg.Connection
) -> None:
    app, codes = turn_on(alice, clock)

    def turn_off(password: str, code: str) -> Page:
        return Page(alice.http.post(f"{PAGE}/off", data={"password": password, "code": code}))

    assert "not your password" in turn_off("wrong", app.code()).errors
    assert alice.page(PAGE).one("[autofocus]")["name"] == "password"
    wrong = turn_off(PASSWORD, "000000")
    assert ("not right" in wrong.errors, wrong.one("[autofocus]")["name"]) == (True, "code")
    assert turn_off(PASSWORD, "").status == 422
    assert site_of(alice).log_in().status_code == 200
    assert turn_off(PASSWORD, codes[0]).status == 303
    assert site_of(alice).log_in().status_code == 303
    assert postgres.execute("SELECT * FROM recovery_codes").fetchall() == []


def test_turning_it_on_takes_the_password_and_a_code(alice: Person, bob: Person, clock: Clock) -> None:
    wrong = Page(alice.http.post(f"{PAGE}/begin", data={"password": "wrong"}))
    assert (wrong.status, "not your password" in wrong.errors) == (422, True)

    shown = offer(alice)
    form = {"offer": str(shown.one("input[name=offer]")["value"])}
    app = App(shown.one("#pane strong").get_text().replace(" ", ""), clock)
    again = Page(alice.http.post(f"{PAGE}/on", data={**form, "code": "000000"}))
    assert (again.status, again.one("#pane strong").get_text()) == (422, shown.one("#pane strong").get_text())
    bob.http.post(f"{PAGE}/on", data={**form, "code": app.code()})  # the offer is not his
    assert all(site_of(person).log_in().status_code == 303 for person in (alice, bob))


def test_an_operator_turns_it_off_for_who_lost_everything(alice: Person, site: Site, clock: Clock) -> None:
    turn_on(alice, clock)
    command = [sys.executable, "-m", "web.admin", "users", "second-factor-off", "alice"]
    subprocess.run(command, cwd=TOP, env={**site.environ}, check=True)
    assert site_of(alice).log_in().status_code == 303
