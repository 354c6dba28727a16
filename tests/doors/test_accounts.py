"""Sessions: which end by what, and how many there are."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest

from tests.site import PASSWORD, Page, Person, Site
from web.accounts import sessions

NEW = "another good password"


def count(postgres: psycopg.Connection) -> int:
    row = postgres.execute("SELECT count(*) FROM sessions").fetchone()
    assert row is not None
    return int(row[0])


def test_a_login_with_the_old_password_does_not_outlive_its_change(
    alice: Person, site: Site, postgres: psycopg.Connection
) -> None:
    browsers = [Person("alice", site) for _ in range(12)]
    with ThreadPoolExecutor(13) as pool:
        logins = [pool.submit(browser.log_in) for browser in browsers]
        alice.http.post("/settings/password", data={"current": PASSWORD, "password": NEW})
        statuses = {login.result().status_code for login in logins}

    assert statuses <= {303, 422}
    assert count(postgres) == 1
    assert alice.http.get("/").status_code == 200
    assert all(browser.http.get("/").status_code == 303 for browser in browsers)


def test_a_password_that_changed_after_it_was_verified_signs_nobody_in(
    alice: Person, site: Site, postgres: psycopg.Connection
) -> None:
    """The login waits for the lock of the change, and then compares again."""
    other = Person("alice", site)
    with postgres.transaction(), ThreadPoolExecutor(1) as pool:
        postgres.execute("UPDATE users SET password_hash = 'changed'")
        login = pool.submit(other.log_in)
        with pytest.raises(TimeoutError):
            login.result(timeout=0.5)
        postgres.execute("UPDATE users SET password_hash = 'changed again'")
        # Leaving the transaction commits; the pool then waits for the answer.
        postgres.execute("COMMIT")
        assert login.result().status_code == 422
        postgres.execute("BEGIN")
    assert count(postgres) == 1


def test_a_login_ends_the_session_that_it_replaces(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    kept = alice.cookies
    with alice.socket() as tab:
        alice.log_in()
        assert tab.close_code() == 4401
    assert alice.site.client(kept).get("/").status_code == 303
    assert alice.http.get("/").status_code == 200

    alice.http.post("/login", data={"username": "bob", "password": PASSWORD})
    rows = postgres.execute(
        "SELECT username, count(s.id), token FROM users u LEFT JOIN sessions s ON user_id = u.id "
        "GROUP BY 1, 3 ORDER BY 1"
    ).fetchall()
    assert rows == [("alice", 0, 1), ("bob", 2, 1)]  # the token is not touched


def test_a_user_has_twenty_sessions_at_most(alice: Person, site: Site, postgres: psycopg.Connection) -> None:
    postgres.execute(
        "INSERT INTO sessions (id, user_id, expires_at, created_at) SELECT sha256(n::text::bytea), users.id,"
        " now() + interval '1 day', now() - n * interval '1 minute' FROM users, generate_series(1, 30) n"
    )
    assert count(postgres) == 31

    Person("alice", site).log_in()

    assert count(postgres) == sessions.SESSIONS
    assert alice.http.get("/").status_code == 200  # the oldest went


def test_one_session_is_ended_from_the_list(alice: Person, bob: Person) -> None:
    other = alice.another_browser()
    page = alice.page("/settings")
    assert "127.0.0.1" in page.one(".sessions").get_text()
    assert "last used" in page.one(".sessions").get_text()
    (form,) = page.html.select(".sessions form")

    with other.socket() as tab:
        assert bob.http.post(str(form["action"])).status_code == 303  # it is not his, so nothing happens
        assert tab.is_open()
        assert Page(alice.http.post(str(form["action"]), follow_redirects=True)).status == 200
        assert tab.close_code() == 4401
    assert alice.page("/settings").one("#token").get_text() == "1"
    for strange in ("xyz", "00", "%00"):
        assert alice.http.post(f"/settings/sessions/{strange}/end").status_code in (303, 400, 404)


def test_when_a_session_was_used_is_kept_to_some_minutes(
    alice: Person, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def used_at() -> object:
        (row,) = postgres.execute("SELECT seen_at FROM sessions").fetchall()
        return row[0]

    before = used_at()
    alice.http.get("/")
    assert used_at() == before  # nothing is written for every page
    postgres.execute("UPDATE sessions SET seen_at = seen_at - %s", [sessions.SEEN_EVERY + timedelta(seconds=1)])
    for path in ("/", "/users"):
        alice.http.get(path)
    assert used_at() > before  # type: ignore[operator]


def test_a_banned_user_is_told_so_after_the_right_password_only(
    alice: Person, site: Site, postgres: psycopg.Connection
) -> None:
    postgres.execute("UPDATE users SET banned_at = now()")

    def said(password: str) -> str:
        return Page(site.client().post("/login", data={"username": "alice", "password": password})).errors

    assert "closed by whoever runs this site" in said(PASSWORD)
    assert "do not belong together" in said("a wrong one")


def test_a_log_out_clears_the_browsers_cache_but_neither_the_outbox_nor_the_known_device(alice: Person) -> None:
    assert alice.log_out().headers["Clear-Site-Data"] == '"cache"'
