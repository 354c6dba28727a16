"""Forms that are none, and values that no database, parser or hash takes: a clear 4xx, never a 500."""

import threading
import time

import httpx2 as httpx
import psycopg
import pytest

from tests import site as sites
from tests.doors.test_connections import plugged
from tests.site import PASSWORD, Person, Site
from web.views import pages

FORM = "application/x-www-form-urlencoded"
DIGITS = "9" * 5000


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=x; charset=punycode",
        "multipart/form-data; boundary=x",
        "Multipart/Form-Data; boundary=x",
        "application/json",
        "text/plain",
        "text/plain; application/x-www-form-urlencoded",
        "",
        "x",
    ],
)
def test_a_body_that_is_no_form_is_not_read(site: Site, content_type: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\n' + b"-" * 250_000 + b"\r\n--x--\r\n"

    answer = site.client().post("/login", content=body, headers={"Content-Type": content_type})

    assert answer.status_code == 415
    assert FORM in answer.text


def test_no_form_holds_up_the_others(environ: dict[str, str], clean: None) -> None:
    """Each of these takes less than the three seconds that a single one took; a busy machine is no reason to fail."""
    bodies = [
        b"&" * 250_000,
        b"a&" * 125_000,
        b"username=" + b"%61" * 80_000,
        b"username=" + b"%" * 250_000,
        b"username=" + b"%ff" * 80_000,
        b"=" * 250_000,
    ]
    with sites.in_this_process(environ) as site:
        client = site.client()
        for body in bodies:
            started = time.process_time()
            answer = client.post("/login", content=body, headers={"Content-Type": f"{FORM}; charset=punycode"})
            assert answer.status_code in (400, 422)
            assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("path", "form", "status"),
    [
        ("/login", {"username": "alice", "password": "x" * 5000}, 422),
        ("/login", {"username": "alice", "password": "\0"}, 422),
        ("/login", {"username": "al\0ice", "password": PASSWORD}, 422),
        ("/login", {"username": "alice", "password": PASSWORD, "next": "//["}, 303),
        ("/login", {"username": "alice", "password": PASSWORD, "next": "/\\["}, 303),
        ("/register", {"username": "new\0", "password": PASSWORD}, 422),
        ("/register", {"username": "newcomer", "password": "x" * 5000}, 422),
        ("/settings/password", {"current": "x" * 5000, "password": PASSWORD}, 422),
        ("/chat/bob/messages", {"body": "a\0b", "nonce": "1"}, 422),
        (f"/settings/telegram/requests/{DIGITS}/connect", {}, 404),
    ],
)
def test_a_strange_form_is_answered(alice: Person, bob: Person, path: str, form: dict[str, str], status: int) -> None:
    answer = alice.http.post(path, data=form)

    assert answer.status_code == status
    assert answer.headers.get("location", "/") == "/"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/?after=%00", 400),
        ("/users?q=%00", 400),
        ("/users?after=%00", 400),
        ("/chat/b%00b", 400),
        (f"/chat/bob/messages?before={DIGITS}", 422),
        (f"/chat/bob/messages?after={DIGITS}", 422),
        ("/chat/bob/messages?after=1&first=-1", 422),
        ("/users?q=%ff%fe", 200),
        ("/users?after=%ed%a0%80", 200),
        ("/?after=%ed%a0%80", 200),
        ("/login?next=//[", 303),
        (f"/settings/telegram?requests={DIGITS}", 422),
    ],
)
def test_a_strange_address_is_answered(alice: Person, bob: Person, path: str, status: int) -> None:
    alice.post("bob", "hello")

    assert alice.http.get(path).status_code == status


@pytest.mark.parametrize("origin", ["http://[", "http://]", "//", "", "http://" + "x" * 9000])
def test_a_strange_origin_is_foreign(alice: Person, bob: Person, origin: str) -> None:
    answer = alice.http.post("/chat/bob/messages", data={"body": "x", "nonce": "n"}, headers={"Origin": origin})

    assert answer.status_code == 403


@pytest.mark.parametrize("host", ["[", "[::1", "]", "a b", "x:y", "\xff", ""])
def test_a_strange_host_is_answered(alice: Person, host: str) -> None:
    for client in (alice.http, alice.site.client()):
        headers = [(b"Host", host.encode("latin-1"))]
        assert client.get("/users?q=b", headers=headers).status_code in (200, 303)
        assert client.post("/chat/nobody/messages", headers=headers).status_code in (401, 404)


def test_a_client_that_leaves_in_the_middle_of_a_form_is_no_error(
    environ: dict[str, str], clean: None, caplog: pytest.LogCaptureFixture
) -> None:
    with sites.in_this_process(environ) as site:
        for _ in range(5):
            with plugged(site) as plug:
                head = f"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: 9\r\n\r\n"
                plug.sendall(head.encode() + b"user")
                time.sleep(0.1)  # or it would leave before the site has begun to read
    assert not [record for record in caplog.records if record.exc_info]


def test_a_long_form_is_parsed_beside_the_event_loop(
    environ: dict[str, str], clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def parse(*arguments: object, **how: object) -> list[tuple[str, str]]:
        threads.append(threading.current_thread())
        return []

    monkeypatch.setattr(pages, "parse_qsl", parse)
    with sites.in_this_process(environ) as site:
        for length in (100, pages.LONG + 1):
            body = b"username=" + b"x" * length
            site.client().post("/login", content=body, headers={"Content-Type": FORM})

    loop, other = threads
    assert loop is not other


def test_a_form_has_a_bounded_number_of_fields(site: Site) -> None:
    answer = site.client().post("/login", content=b"a=1&" * 200, headers={"Content-Type": FORM})

    assert (answer.status_code, "100 fields at most" in answer.text) == (400, True)


@pytest.mark.parametrize("version", [DIGITS, "\0", "-1", "1.0", "9" * 19, "²"])
def test_a_strange_reading_changes_nothing(
    alice: Person, bob: Person, postgres: psycopg.Connection, version: str
) -> None:
    alice.post("bob", "hello")
    with bob.socket() as his:
        his.send(action="read", to="alice", version=version)
        his.send(action="read", to="al\0ice", version="1")
        his.send(action="typing", to="al\0ice")
        assert his.is_open()
    read = "SELECT read_seq FROM participants JOIN users ON users.id = user_id WHERE username = 'bob'"
    assert postgres.execute(read).fetchall() == [(0,)]


def test_a_password_that_is_none_signs_nobody_in(alice: Person, postgres: psycopg.Connection) -> None:
    postgres.execute("UPDATE users SET password_hash = '!'")

    assert alice.log_in().status_code == 422


def test_the_page_of_an_unforeseen_error_has_the_headers_too(
    environ: dict[str, str], clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("web.accounts.sessions.id_of", fail)
    with sites.in_this_process(environ) as site:
        answer: httpx.Response = site.client().get("/")
    assert answer.status_code == 500
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "Something went wrong" in answer.text
