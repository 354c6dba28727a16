"""The operator's command line and the administrators' page reach open pages at once; strangers find nothing."""

import re
import subprocess
import sys

import psycopg
import pytest

from tests import site as sites
from tests.site import PASSWORD, TOP, Page, Person, Site


def admin(site: Site, *arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "web.admin", *arguments]
    done = subprocess.run(command, cwd=TOP, env={**site.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def new_password(said: str) -> str:
    (password,) = re.findall(r"password: (\S+)", said)
    return str(password)


def logs_in(site: Site, username: str, password: str) -> bool:
    answer = site.client().post("/login", data={"username": username, "password": password})
    return answer.status_code == 303


def test_an_account_is_made_listed_and_gets_a_new_password(site: Site) -> None:
    password = new_password(admin(site, "users", "create", "alice", "--admin"))
    assert logs_in(site, "alice", password)
    assert "administrator" in admin(site, "users", "list", "ali")
    assert admin(site, "users", "list", "bob") == ""

    alice = Person("alice", site)
    alice.http.post("/login", data={"username": "alice", "password": password})
    with alice.sockets() as tabs:
        newer = new_password(admin(site, "users", "reset-password", "Alice"))
        assert [tab.close_code() for tab in tabs] == [4401, 4401]
    assert (logs_in(site, "alice", password), logs_in(site, "alice", newer)) == (False, True)


def test_who_is_banned_is_thrown_out_of_every_process(alice: Person, site: Site) -> None:
    with alice.sockets() as tabs:
        admin(site, "users", "ban", "alice")
        assert [tab.close_code() for tab in tabs] == [4401, 4401]
    assert alice.http.get("/").status_code == 303
    assert not logs_in(site, "alice", PASSWORD)

    admin(site, "users", "unban", "alice")
    assert logs_in(site, "alice", PASSWORD)


def test_sessions_are_ended_and_the_token_stays(alice: Person, site: Site, postgres: psycopg.Connection) -> None:
    with alice.sockets() as tabs:
        admin(site, "sessions", "end", "alice")
        assert [tab.close_code() for tab in tabs] == [4401, 4401]
    assert postgres.execute("SELECT token FROM users").fetchall() == [(1,)]


def test_a_deleted_account_leaves_its_messages_only(
    alice: Person, bob: Person, site: Site, postgres: psycopg.Connection
) -> None:
    alice.post("bob", "something to keep")
    assert "alice" in bob.page("/chat/alice").html.get_text()  # the list is cached now
    ((alices,),) = postgres.execute("SELECT id FROM users WHERE username = 'alice'").fetchall()
    postgres.execute("UPDATE users SET telegram_chat_id = 7, telegram_name = 'Alice' WHERE id = %s", [alices])

    admin(site, "users", "delete", "alice", "--yes")

    assert not logs_in(site, "alice", PASSWORD)
    assert alice.http.get("/").status_code == 303
    page = bob.page(f"/chat/deleted-user-{alices}")
    assert page.bodies == ["something to keep"]
    for path in ("/", "/users", f"/chat/deleted-user-{alices}"):
        assert "alice" not in bob.page(path).html.get_text().lower()
    assert bob.page("/chat/alice").status == 404
    assert "deleted-user" not in bob.page("/users").one("#people").get_text()
    ((chat, name),) = postgres.execute("SELECT telegram_chat_id, telegram_name FROM users WHERE id = %s", [alices])
    assert (chat, name) == (None, None)
    assert Person("alice", site).register().status_code == 422  # nobody can pretend to be her


def test_an_invitation_is_made_for_the_operator(alice: Person, site: Site, environ: dict[str, str]) -> None:
    link = admin(site, "invite", "alice", "--note", "for bob").strip()
    with sites.in_this_process(environ, SIGN_UP="invite") as private:
        code = link.partition("invitation=")[2]
        form = {"username": "bob", "password": PASSWORD, "invitation": code}
        assert private.client().post("/register", data=form).status_code == 303


def test_it_says_what_there_is_and_what_is_amiss(alice: Person, bob: Person, site: Site) -> None:
    alice.post("bob", "hello")
    assert re.search(r"users\t2\n.*messages\t1\n", admin(site, "stats"), re.DOTALL)
    assert "LIMITS is off" in admin(site, "doctor", status=1)
    site_without = Site({**site.environ, "REDIS_URL": "redis://127.0.0.1:1", "LIMITS": "on"})
    assert "Redis does not answer" in admin(site_without, "doctor", status=1)
    assert "Everything answers" in admin(Site({**site.environ, "LIMITS": "on"}), "doctor")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("users", "ban", "nobody-here"), "Nobody here is called nobody-here"),
        (("users", "create", "alice"), "Somebody has this name"),
        (("users", "create", "a b"), "letters a to z"),
        (("invite", "%00"), "Nobody here is called"),
    ],
)
def test_a_mistake_is_said_in_a_sentence(alice: Person, site: Site, arguments: tuple[str, ...], said: str) -> None:
    output = admin(site, *arguments, status=1)

    assert said in output
    assert "Traceback" not in output


def test_the_first_user_is_administrator_and_nobody_else_finds_the_page(alice: Person, bob: Person) -> None:
    assert [person.http.get("/admin").status_code for person in (alice, bob)] == [200, 404]
    assert alice.site.client().get("/admin").status_code == 303
    for action in ("ban", "unban", "end-sessions"):
        assert bob.http.post(f"/admin/users/alice/{action}").status_code == 404
    assert alice.page("/settings").html.select("a[href='/admin']")
    assert not bob.page("/settings").html.select("a[href='/admin']")
    assert alice.http.get("/").status_code == 200


def test_the_page_bans_and_lets_back_in(alice: Person, bob: Person, site: Site) -> None:
    with bob.socket() as his:
        assert alice.http.post("/admin/users/bob/ban").status_code == 303
        assert his.close_code() == 4401
    assert "banned" in alice.page("/admin?q=bo").one(".sessions").get_text()
    assert not logs_in(site, "bob", PASSWORD)
    alice.http.post("/admin/users/bob/unban")
    assert logs_in(site, "bob", PASSWORD)

    assert Page(alice.http.post("/admin/users/alice/ban")).status == 422
    assert alice.http.post("/admin/users/nobody/ban").status_code == 404
    assert alice.http.post("/admin/users/bob/promote").status_code == 404
