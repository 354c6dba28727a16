"""Hostile requests and frames: none is answered with a 5xx, and none leaves an error in the log.

FUZZ says how many, 1,000 by default and the same ones each time: `FUZZ=10000 python -m pytest tests/doors/test_fuzz.py`
sends ten thousand new ones.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests import site as sites
from tests.doors.test_connections import plugged
from tests.site import Person, Site
from web import tasks
from web.app import routes
from web.server import connection

pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")  # of an example's length

NUMBER = int(os.environ.get("FUZZ", "1000"))
settings.register_profile(
    "fuzz",
    deadline=None,
    database=None,
    derandomize="FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
REQUESTS = settings(settings.get_profile("fuzz"), max_examples=NUMBER * 7 // 10)
FRAMES = settings(settings.get_profile("fuzz"), max_examples=NUMBER * 3 // 10)

WAYS = sorted(
    {
        (method, str(getattr(route, "path", "/")))
        for route in routes
        for method in (getattr(route, "methods", None) or {"GET"})
    }
    - {("POST", "/logout"), ("POST", "/settings/sessions/end")}  # these would sign alice out
)
STRANGE_PLACES = (b"/ws", b"*", b"http://[/", b"//evil.example/", b"/\xff", b"/static/../x", b"/?\xff")
FIELDS = ("username", "password", "current", "next", "body", "nonce", "to", "version", "first", "code", "when")
QUERIES = ("q", "after", "before", "first", "next", "registered", "requests", "around", "v")
HEADERS = (
    "Host", "Origin", "Sec-Fetch-Site", "Cookie", "HX-Request", "Accept", "Content-Type", "Content-Length",
    "X-Forwarded-For", "X-Forwarded-Proto", "Range", "If-None-Match", "If-Modified-Since", "Authorization",
    "Transfer-Encoding", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "User-Agent",
)  # fmt: skip
NASTY = st.sampled_from(
    (
        "", "\0", "a\0b", "alice", "bob", "ALICE", "1", "0", "-1", "1e9", "²", "९", "9" * 19, "9" * 5000, "//[", "/\\[",
        "[", "http://[", "https://[::1", "//evil.example", "/chat/bob", "\ud800", "\udfff", "\U0010ffff", "\u202e",
        "{{7*7}}", "x" * 4097, "x" * 60_000, "😀.co " * 700, "true", "null", "bytes=0-1,2-3", "bytes=9-1", "chunked",
        "websocket", "Upgrade", "keep-alive, Upgrade", "13", "same-origin", "none", "a=b; session=x", 'session="\\377"',
        "application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=unicode_escape",
        "multipart/form-data; boundary=x; charset=punycode", "https,http", "127.0.0.1, ::1", "%00", "%", "..",
    )
)  # fmt: skip
TEXTS = NASTY | st.text(max_size=40) | st.text(st.characters(), max_size=8)


def escaped(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def form(fields: dict[str, str]) -> bytes:
    return "&".join(f"{name}={escaped(value)}" for name, value in fields.items()).encode()


@st.composite
def ways(draw: st.DrawFn) -> tuple[str, bytes]:
    """A method and a target."""
    method, path = draw(st.sampled_from(WAYS))
    while "{" in path:
        start, end = path.index("{"), path.index("}")
        path = path[:start] + escaped(draw(st.just("bob") | TEXTS)) + path[end + 1 :]
    query = form(draw(st.dictionaries(st.sampled_from(QUERIES), TEXTS, max_size=3)))
    target = path.encode() + (b"?" + query if query else b"")
    if draw(st.integers(0, 7)) == 7:
        method = draw(st.sampled_from(("GET", "POST", "HEAD", "OPTIONS", "PUT", "CONNECT")))
    if draw(st.integers(0, 7)) == 7:
        more = quote_from_bytes(draw(st.binary(max_size=4))).encode()
        target = draw(st.sampled_from((*STRANGE_PLACES, path.encode() + more)))
    return method, target


@dataclass(frozen=True)
class Hostile:
    """A request, byte by byte."""

    head: bytes
    body: bytes
    is_alices: bool


@st.composite
def requests(draw: st.DrawFn) -> Hostile:
    method, target = draw(ways())
    body = draw(st.dictionaries(st.sampled_from(FIELDS), TEXTS, max_size=4).map(form) | st.binary(max_size=50))
    headers = {"Host": "127.0.0.1", "Content-Type": "application/x-www-form-urlencoded"}
    headers["Content-Length"] = str(len(body))
    if draw(st.integers(0, 2)) == 0:
        headers |= draw(st.dictionaries(st.sampled_from(HEADERS), TEXTS, max_size=2))
    lines = [f"{name}: {value}".encode("utf-8", "replace").replace(b"\n", b" ") for name, value in headers.items()]
    head = b"%s %s HTTP/1.1\r\n%s\r\n" % (method.encode(), target, b"\r\n".join(lines))
    return Hostile(head, body, draw(st.booleans()))


STRINGS = st.dictionaries(st.sampled_from((*FIELDS, "action", "visible", "seq", "emoji")), TEXTS, max_size=5)
ACTIONS = st.sampled_from(("send", "read", "typing", "draft", "view", "edit", "remove", "react"))
OBJECTS = st.builds(lambda frame, action, to: {**frame, "action": action, "to": to}, STRINGS, ACTIONS, TEXTS)
JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists, max_leaves=5)
WRITTEN = (OBJECTS | STRINGS | JSON).map(json.dumps)
FRAME = WRITTEN | st.text(max_size=20) | st.binary(max_size=20) | st.just("[" * 60_000) | st.just("x" * 70_000)


@contextmanager
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No record with a traceback, and none of an error, is logged meanwhile."""
    caplog.clear()
    yield
    served = [record for record in caplog.records if record.name != "websockets.client"]  # which is this test's own
    found = [record for record in served if record.exc_info or record.levelno >= logging.ERROR]
    assert not found, found[0].getMessage() + (caplog.handler.format(found[0]) if found[0].exc_info else "")


@pytest.fixture
def alice(environ: dict[str, str], clean: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    """On a site in this process, whose log can be read."""
    monkeypatch.setattr(tasks, "TEST_MS", 0)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)  # the tasks read it when the first one is sent
    with sites.in_this_process(environ) as site:
        alice = site.person("alice")  # the first one, so an administrator
        site.person("bob")
        alice.post("bob", "hello")
        yield alice


def answer(site: Site, request: bytes) -> bytes:
    """The beginning of the answer; nothing if the server just closed the connection."""
    with plugged(site) as plug, suppress(ConnectionError):
        plug.sendall(request)
        return plug.recv(4096)
    return b""


def test_no_request_is_answered_with_a_5xx(
    alice: Person, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.5)  # many promise a body that does not come
    cookie = f"Cookie: session={alice.cookies['session']}\r\n".encode()
    seen: Counter[bytes] = Counter()

    @REQUESTS
    @given(requests())
    def check(hostile: Hostile) -> None:
        with quiet(caplog):
            said = answer(alice.site, hostile.head + (cookie if hostile.is_alices else b"") + b"\r\n" + hostile.body)
            seen[said[:12].removeprefix(b"HTTP/1.1 ")] += 1
            assert not said or b"100" <= said[9:12] < b"500", said

    check()
    assert {b"200", b"303", b"403", b"404", b"422"} < set(seen), seen
    assert alice.http.get("/chat/bob").status_code == 200


def test_no_frame_breaks_a_socket(alice: Person, caplog: pytest.LogCaptureFixture) -> None:
    url = alice.site.url.replace("http", "ws") + "/ws"
    headers = {"Cookie": f"session={alice.cookies['session']}"}

    @FRAMES
    @given(st.lists(st.tuples(FRAME, st.booleans()), min_size=1, max_size=4))
    def check(frames: list[tuple[str | bytes, bool]]) -> None:
        with quiet(caplog), connect(url, additional_headers=headers, max_size=None) as tab:
            try:
                for frame, as_text in frames:
                    tab.send(frame.encode("utf-8", "replace") if isinstance(frame, str) else frame, text=as_text)
                tab.send('{"action": "the last one"}')
                while "could not read" not in str(tab.recv(20)):
                    pass
            except ConnectionClosed:
                pass
            # Of what is no UTF-8 or too long, the server need not wait until its reason has arrived.
            assert tab.close_code in (None, 1006, 1007, 1009)

    check()
    assert alice.http.get("/chat/bob").status_code == 200
