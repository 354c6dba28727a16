"""Logging in and out: the session, and the online token."""

import time
from http.cookies import SimpleCookie
from statistics import median

import psycopg
import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer

from tests import site as sites
from tests.site import PASSWORD, Page, Person, Site


def token(postgres: psycopg.Connection, username: str) -> int:
    return int(postgres.execute("SELECT token FROM users WHERE username = %s", [username]).fetchall()[0][0])


def test_the_token_is_0_then_1_from_login_and_0_again_at_log_out(site: Site, postgres: psycopg.Connection) -> None:
    alice = Person("alice", site)
    alice.register()
    assert token(postgres, "alice") == 0

    alice.log_in()
    assert token(postgres, "alice") == 1
    assert alice.page("/settings").one("#token").get_text() == "1"

    alice.log_out()
    assert token(postgres, "alice") == 0


def test_the_session_ends_by_itself_and_leaves_the_token(environ: dict[str, str], postgres: psycopg.Connection) -> None:
    with sites.running(environ, SESSION_MAX_AGE="2") as site:
        alice = site.person("alice")
        with alice.socket() as tab:
            assert alice.http.get("/").status_code == 200
            kept = alice.cookies

            assert tab.close_code() == 4401
        answer = site.client(kept).get("/")

    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/")
    assert token(postgres, "alice") == 1


def test_the_cookie_is_of_this_host_for_a_day_and_not_for_scripts(site: Site) -> None:
    alice = Person("alice", site)
    alice.register()

    cookie = SimpleCookie(alice.log_in().headers["set-cookie"])["session"]
    behind_https = site.client().post(
        "/login", data={"username": "alice", "password": PASSWORD}, headers={"X-Forwarded-Proto": "https"}
    )

    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"], cookie["path"]) == (True, "lax", "86400", "/")
    assert not cookie["secure"]
    secure = SimpleCookie(behind_https.headers["set-cookie"])["__Host-session"]
    assert (secure["secure"], secure["httponly"], secure["domain"]) == (True, True, "")


def test_a_cookie_of_a_time_to_come_signs_nobody_in(alice: Person, site: Site, environ: dict[str, str]) -> None:
    class Ahead(TimestampSigner):
        def get_timestamp(self) -> int:
            return super().get_timestamp() + 3600

    secret = URLSafeTimedSerializer(environ["SECRET_KEY"], "knock.session").loads(alice.cookies["session"])
    for signer, status in ((TimestampSigner, 200), (Ahead, 303)):
        cookie = URLSafeTimedSerializer(environ["SECRET_KEY"], "knock.session", signer=signer).dumps(secret)
        assert site.client({"session": str(cookie)}).get("/").status_code == status


def test_log_out_ends_the_cookie_on_the_server(alice: Person, site: Site) -> None:
    kept = alice.cookies
    assert site.client(kept).get("/").status_code == 200

    answer = alice.log_out()

    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert site.client(kept).get("/").status_code == 303


def test_log_out_closes_the_sockets_of_that_session_only_in_every_process(alice: Person) -> None:
    other_browser = alice.another_browser()
    sockets = [alice.socket() for _ in range(4)]
    with other_browser.socket() as other_tab:
        tabs = [socket.__enter__() for socket in sockets]
        started = time.monotonic()

        alice.log_out()

        assert [tab.close_code(2) for tab in tabs] == [4401] * 4
        assert time.monotonic() - started < 2
        assert other_tab.close_code(0.5) is None
    for socket in sockets:
        socket.__exit__(None, None, None)


def test_a_forged_cookie_signs_nobody_in(alice: Person, site: Site) -> None:
    value = alice.http.cookies["session"]
    forged = value[:-2] + ("A" if value[-2] != "A" else "B") + value[-1]  # the last one has bits that say nothing

    assert site.client({"session": value}).get("/").status_code == 200
    assert site.client({"session": forged}).get("/").status_code == 303


def test_an_older_key_still_signs_in_while_it_is_a_fallback(environ: dict[str, str], alice: Person) -> None:
    kept = alice.cookies
    new = "a-newer-key-of-the-tests-also-long-enough"
    with sites.running(environ, SECRET_KEY=new, SECRET_KEY_FALLBACKS=environ["SECRET_KEY"]) as rotated:
        assert rotated.client(kept).get("/").status_code == 200
    with sites.running(environ, SECRET_KEY=new) as rotated:
        assert rotated.client(kept).get("/").status_code == 303


def test_the_name_may_be_typed_in_any_case(alice: Person, site: Site) -> None:
    answer = site.client().post("/login", data={"username": "ALICE", "password": PASSWORD})

    assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    ("username", "password"), [("alice", "not the password"), ("nobody", PASSWORD), ("a\x00b", "x")]
)
def test_a_wrong_password_and_an_unknown_name_read_the_same(
    alice: Person, site: Site, username: str, password: str
) -> None:
    page = Page(site.client().post("/login", data={"username": username, "password": password}))

    assert page.status == 422
    assert page.errors == "That username and password do not belong together."
    assert page.one("input[name=username]")["value"] == username
    assert "value" not in page.one("input[name=password]").attrs or not page.one("input[name=password]")["value"]


def test_a_wrong_password_and_an_unknown_name_take_the_same_time(alice: Person, site: Site) -> None:
    def seconds(username: str) -> float:
        started = time.perf_counter()
        site.client().post("/login", data={"username": username, "password": "not the password"})
        return time.perf_counter() - started

    seconds("nobody0")  # the first one makes the hash that nobody has
    unknown = median(seconds(f"nobody{n}") for n in range(1, 8))
    known = median(seconds("alice") for _ in range(7))

    assert 1 / 3 < known / unknown < 3  # without a hash to verify it would be twenty


def test_guessing_is_slowed_for_that_account(alice: Person, bob: Person, site: Site) -> None:
    def attempt(username: str, password: str) -> Page:
        return Page(site.client().post("/login", data={"username": username, "password": password}))

    assert [attempt("alice", f"guess number {n}").status for n in range(10)] == [422] * 10
    refused = attempt("Alice", PASSWORD)

    assert refused.status == 429
    assert "Try again in 15 minutes" in refused.errors
    assert attempt("bob", PASSWORD).status == 303


def test_logging_in_forgets_the_failures_before_it(alice: Person, site: Site) -> None:
    for _ in range(2):
        for n in range(9):
            site.client().post("/login", data={"username": "alice", "password": f"guess number {n}"})
        assert alice.log_in().status_code == 303


def test_a_page_that_needs_a_login_comes_back_after_it(site: Site, alice: Person, bob: Person) -> None:
    answer = site.client().get("/chat/bob?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/chat/bob%3Fx%3D1")
    assert Page(site.client().get(answer.headers["location"])).one("input[name=next]")["value"] == "/chat/bob?x=1"

    assert alice.log_in(next="/chat/bob?x=1").headers["location"] == "/chat/bob?x=1"


def test_to_htmx_it_says_where_to_log_in(site: Site) -> None:
    answer = site.client().get("/users", headers={"HX-Request": "true"})

    assert answer.headers["hx-redirect"] == "/login?next=/users"


@pytest.mark.parametrize(
    "next", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"]
)
def test_after_the_login_nobody_is_sent_to_another_site(alice: Person, next: str) -> None:
    assert alice.log_in(next=next).headers["location"] == "/"


def test_a_weaker_hash_is_replaced_at_login(site: Site, alice: Person, postgres: psycopg.Connection) -> None:
    from passlib.hash import argon2

    weaker = argon2.using(type="ID", memory_cost=1024, time_cost=1, parallelism=1).hash(PASSWORD)
    postgres.execute("UPDATE users SET password_hash = %s", [weaker])

    assert alice.log_in().status_code == 303

    rehashed = postgres.execute("SELECT password_hash FROM users").fetchall()[0][0]
    assert rehashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert alice.log_in().status_code == 303
