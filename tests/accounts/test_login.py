"""Logging in and out: the session, and the online token."""

import asyncio
from datetime import UTC, datetime
from http.cookies import Morsel, SimpleCookie

import httpx2 as httpx
import psycopg
import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from sqlalchemy import text

from tests import site as sites
from tests.site import PASSWORD, Page, Person, Site, Tab
from web import settings
from web.accounts import users
from web.accounts.sessions import SignedIn
from web.site import running


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


def test_the_session_ends_by_itself_and_leaves_the_token(alice: Person, postgres: psycopg.Connection) -> None:
    postgres.execute("UPDATE sessions SET expires_at = now() + interval '1 second'")
    with alice.socket() as tab:
        assert tab.close_code() == 4401

    answer = alice.http.get("/")

    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/")
    assert token(postgres, "alice") == 1


def test_logging_in_removes_the_sessions_that_have_expired(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    postgres.execute(
        "UPDATE sessions SET expires_at = now() FROM users WHERE users.id = user_id AND username = 'alice'"
    )

    alice.another_browser()

    assert postgres.execute("SELECT count(*) FROM sessions").fetchall() == [(2,)]
    assert bob.http.get("/").status_code == 200


def test_the_cookie_is_of_this_host_for_a_day_and_not_for_scripts(
    site: Site, environ: dict[str, str], postgres: psycopg.Connection
) -> None:
    alice = Person("alice", site)
    alice.register()

    cookie = _cookie(alice.log_in(), "session")
    with sites.in_this_process(environ, FORWARDED_ALLOW_IPS="127.0.0.1") as behind_a_proxy:
        behind_https = behind_a_proxy.client().post(
            "/login", data={"username": "alice", "password": PASSWORD}, headers={"X-Forwarded-Proto": "https"}
        )

    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"], cookie["path"]) == (True, "lax", "86400", "/")
    assert not cookie["secure"]
    secure = _cookie(behind_https, "__Host-session")
    assert (secure["secure"], secure["httponly"], secure["domain"]) == (True, True, "")
    hours = postgres.execute("SELECT extract(epoch FROM expires_at - created_at) / 3600 FROM sessions").fetchall()
    assert [round(float(each), 1) for (each,) in hours] == [24, 24]


def _cookie(answer: httpx.Response, name: str) -> "Morsel[str]":
    cookies = SimpleCookie()
    for each in answer.headers.get_list("set-cookie"):
        cookies.load(each)
    found: Morsel[str] = cookies[name]
    return found


@pytest.mark.parametrize(("seconds", "status"), [(0, 200), (3600, 303), (-86300, 200), (-86500, 303)])
def test_a_cookie_signs_in_for_a_day_from_its_signing_on(
    alice: Person, site: Site, environ: dict[str, str], seconds: int, status: int
) -> None:
    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return super().get_timestamp() + seconds

    secret = URLSafeTimedSerializer(environ["SECRET_KEY"], "knock.session").loads(alice.cookies["session"])
    cookie = URLSafeTimedSerializer(environ["SECRET_KEY"], "knock.session", signer=Signer).dumps(secret)

    assert site.client({"session": str(cookie)}).get("/").status_code == status


def test_log_out_ends_the_cookie_on_the_server_and_in_the_browser(alice: Person, site: Site) -> None:
    kept = alice.cookies
    assert site.client(kept).get("/").status_code == 200

    answer = alice.log_out()

    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "session" not in alice.cookies
    assert site.client(kept).get("/").status_code == 303


def test_log_out_closes_the_sockets_of_that_session_only_in_every_process(alice: Person) -> None:
    with alice.sockets() as tabs, alice.another_browser().sockets() as others:
        alice.log_out()

        assert [tab.close_code() for tab in tabs] == [4401, 4401]
        assert all(tab.is_open() for tab in others)


def test_only_a_commit_closes_the_sockets_of_the_sessions_that_it_ends(
    alice: Person, environ: dict[str, str], postgres: psycopg.Connection
) -> None:
    ((user, session),) = postgres.execute("SELECT user_id, id FROM sessions").fetchall()
    me = SignedIn(user, "alice", session, datetime.now(UTC), datetime.now(UTC), "alice", None, None, False)

    async def log_out(tabs: list[Tab]) -> None:
        async with running(settings.read(environ)) as parts:
            async with parts["db"]() as db:
                await parts["endings"].log_out(db, me)
                await db.rollback()
                await db.execute(text("SELECT 1"))
                await db.commit()  # of another transaction, which ends nothing
            for frame in ("<p>1</p>", "<p>2</p>"):  # what comes together with a frame follows it
                parts["hub"].publish([user], frame)
                assert await asyncio.to_thread(lambda: [str(tab.frame()) for tab in tabs]) == [frame] * 2

            async with parts["db"]() as db:
                await parts["endings"].log_out(db, me)
                await db.commit()
            assert await asyncio.to_thread(lambda: [tab.close_code() for tab in tabs]) == [4401] * 2

    with alice.sockets() as tabs:
        asyncio.run(log_out(tabs))


def test_a_forged_cookie_signs_nobody_in(alice: Person, site: Site) -> None:
    value = alice.http.cookies["session"]
    forged = value[:-2] + ("A" if value[-2] != "A" else "B") + value[-1]  # the last one has bits that mean nothing

    assert site.client({"session": value}).get("/").status_code == 200
    assert site.client({"session": forged}).get("/").status_code == 303


def test_an_older_key_still_signs_in_while_it_is_a_fallback(environ: dict[str, str], alice: Person) -> None:
    kept = alice.cookies
    new = "a-newer-key-of-the-tests-also-long-enough"
    with sites.in_this_process(environ, SECRET_KEY=new, SECRET_KEY_FALLBACKS=environ["SECRET_KEY"]) as rotated:
        assert rotated.client(kept).get("/").status_code == 200
        newer = rotated.person("bob").cookies
    with sites.in_this_process(environ, SECRET_KEY=new) as rotated:
        assert rotated.client(kept).get("/").status_code == 303
        assert rotated.client(newer).get("/").status_code == 200


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


def test_a_wrong_password_and_an_unknown_name_take_the_same_work(
    environ: dict[str, str], alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify, costs = users.verify_password, []

    async def spied(password: str, password_hash: str) -> bool:
        costs.append(password_hash.split("$")[1:4])
        return await verify(password, password_hash)

    monkeypatch.setattr(users, "verify_password", spied)
    with sites.in_this_process(environ) as site:
        for username in ("alice", "nobody"):
            site.client().post("/login", data={"username": username, "password": "not the password"})

    known, unknown = costs
    assert known == unknown
    assert known[0] == "argon2id"


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


@pytest.mark.parametrize("path", ["/login", "/register", "/login?next=/chat/bob"])
def test_signed_in_people_need_no_door(alice: Person, path: str) -> None:
    answer = alice.http.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, path.partition("next=")[2] or "/")


@pytest.mark.parametrize(
    ("action", "page"),
    [
        ("/settings/password", "/settings"),
        ("/settings/sessions/end", "/settings"),
        ("/chat/bob/block", "/chat/bob"),
        ("/admin/users/bob/ban", "/admin"),
        ("/logout", "/"),
        ("/login/code", "/login"),
    ],
)
def test_the_address_of_a_form_leads_to_its_page(alice: Person, action: str, page: str) -> None:
    answer = alice.http.get(action)
    assert (answer.status_code, answer.headers["location"]) == (303, page)
