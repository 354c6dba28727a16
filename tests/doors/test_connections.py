"""Silent, slow and huge requests, and more connections than anybody needs."""

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from secrets import token_hex

import httpx2 as httpx
import pytest
from itsdangerous import URLSafeTimedSerializer

from tests import site as sites
from tests.site import METRICS_TOKEN, Person, Site, eventually
from web.accounts import sessions
from web.proxies import neighbourhood_of
from web.server import connection
from web.server.connection import HEAD_BYTES

KIB = 1024


@contextmanager
def plugged(site: Site) -> Iterator[socket.socket]:
    """A bare TCP connection."""
    with socket.create_connection(("127.0.0.1", int(site.environ["PORT"])), timeout=10) as plug:
        yield plug


def is_closed(plug: socket.socket) -> bool:
    """Whether the connection ends after the rest of the answer."""
    try:
        while plug.recv(4096):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("name", ["Cookie", "X-Anything"])
def test_headers_are_bounded(site: Site, name: str) -> None:
    answer = site.client().get("/livez", headers={name: "x" * HEAD_BYTES})

    assert answer.status_code == 431
    assert "16 KiB" in answer.text
    assert site.client().get("/livez", headers={name: "x" * (HEAD_BYTES - KIB)}).status_code == 200


def test_a_long_address_and_many_headers_are_bounded(site: Site) -> None:
    assert site.client().get("/users?q=" + "x" * HEAD_BYTES).status_code == 431
    assert site.client().get("/livez", headers={f"X-{n}": "x" * 100 for n in range(200)}).status_code == 431


def test_a_head_without_an_end_is_not_kept(site: Site) -> None:
    with plugged(site) as plug:
        plug.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * HEAD_BYTES)
        assert plug.recv(4096).startswith(b"HTTP/1.1 431 ")
        assert is_closed(plug)


def test_a_handshake_with_huge_headers_is_refused(site: Site) -> None:
    with plugged(site) as plug:
        head = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: "
        plug.sendall(head + b"x" * HEAD_BYTES + b"\r\n\r\n")
        assert plug.recv(4096).startswith(b"HTTP/1.1 431 ")


def test_fields_after_a_body_in_chunks_are_bounded(site: Site) -> None:
    with plugged(site) as plug:
        plug.sendall(b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n")
        with suppress(ConnectionError):
            for _ in range(HEAD_BYTES // 100):
                plug.sendall(b"X: " + b"x" * 200 + b"\r\n")
        assert is_closed(plug)


def test_an_ipv6_customer_counts_once() -> None:
    assert (
        neighbourhood_of("2001:db8::1") == neighbourhood_of("2001:db8::ffff:1") != neighbourhood_of("2001:db8:0:1::1")
    )
    assert neighbourhood_of("192.0.2.1") != neighbourhood_of("192.0.2.2")


def test_a_body_is_not_counted_as_head(alice: Person, bob: Person) -> None:
    assert alice.post("bob", "x" * 60 * KIB).status_code == 422  # too long for a message, in the composer's words


def test_a_long_cookie_reaches_no_cache(environ: dict[str, str], clean: None) -> None:
    with sites.in_this_process(environ) as site:
        signer = URLSafeTimedSerializer(environ["SECRET_KEY"], salt="knock.session")
        sessions._signed.cache_clear()
        for cookie in ("x" * 201, signer.dumps(token_hex(200))):
            assert site.client({"session": cookie}).get("/").status_code == 303
        assert sessions._signed.cache_info().currsize == 0
        site.client({"session": "x" * 200}).get("/")
        assert sessions._signed.cache_info().currsize == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost",
        b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 100\r\n\r\nusername=",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /li",
    ],
)
def test_a_request_that_is_not_complete_in_time_is_closed(
    environ: dict[str, str], clean: None, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.5)
    with sites.in_this_process(environ) as site, plugged(site) as plug:
        plug.sendall(sent)
        if b"livez" in sent:
            assert plug.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert is_closed(plug)


def test_an_open_socket_has_no_deadline(environ: dict[str, str], clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.5)
    with sites.in_this_process(environ) as site:
        alice, bob = site.person("alice"), site.person("bob")
        with alice.socket() as hers, plugged(site) as plug:
            assert is_closed(plug)  # half a second later
            bob.post("alice", "still there?")
            assert hers.message().body == "still there?"


def test_an_address_has_a_bounded_number_of_connections(
    environ: dict[str, str], clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "OPEN_AT_ONCE", 8)
    with sites.in_this_process(environ, LIMITS="on") as site, ExitStack() as stack:
        alice = site.person("alice")
        site.close_clients()
        eventually(lambda: not connection.Connection._open)
        tab = stack.enter_context(alice.socket())  # does not count
        plugs = [stack.enter_context(plugged(site)) for _ in range(8)]
        eventually(lambda: connection.Connection._open["127.0.0.1"] == 8)

        with plugged(site) as one_more:
            assert is_closed(one_more)
        plugs[0].close()
        eventually(lambda: connection.Connection._open["127.0.0.1"] == 7)
        assert httpx.get(f"{site.url}/livez", headers={"Connection": "close"}).status_code == 200
        assert tab.is_open()


@pytest.mark.parametrize("freedom", [{"LIMITS": "off"}, {"LIMITS": "on", "FORWARDED_ALLOW_IPS": "127.0.0.0/8"}])
def test_a_trusted_proxy_may_have_any_number(
    environ: dict[str, str], clean: None, monkeypatch: pytest.MonkeyPatch, freedom: dict[str, str]
) -> None:
    monkeypatch.setattr(connection, "OPEN_AT_ONCE", 8)
    with sites.in_this_process(environ, **freedom) as site, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(plugged(site))
        assert site.client().get("/livez").status_code == 200


def test_a_web_process_may_open_as_many_files_as_the_machine_allows() -> None:
    code = "from web.server import connection as c; c.allow_many_files(); print(*c.resource.getrlimit(7))"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    said = subprocess.run([sys.executable, "-c", code], preexec_fn=few, capture_output=True, text=True, check=True)
    assert said.stdout.split() == [str(hard), str(hard)]

    def no_more() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    said = subprocess.run([sys.executable, "-c", code], preexec_fn=no_more, capture_output=True, text=True, check=True)
    assert "may open 256 files only" in said.stderr


def test_the_metrics_need_their_token(site: Site, environ: dict[str, str]) -> None:
    def status(of: Site, authorization: str = "") -> int:
        return of.client().get("/metrics", headers={"Authorization": authorization}).status_code

    assert [status(site), status(site, "Bearer wrong"), status(site, METRICS_TOKEN)] == [401, 401, 401]
    assert "knock_messages_total" in site.metrics().text
    assert f"knock_open_files_limit {float(resource.getrlimit(resource.RLIMIT_NOFILE)[1])}" in site.metrics().text
    with sites.in_this_process(environ, METRICS_TOKEN="") as closed:
        assert [status(closed), status(closed, "Bearer"), status(closed, "Bearer None")] == [404, 404, 404]
