"""A running site and the people who use it, through HTTP and WebSocket."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import randbelow, token_hex
from unittest import mock

import httpx2 as httpx
import psutil
import uvicorn
from alembic import command
from alembic.config import Config
from bs4 import BeautifulSoup, Tag
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests import leaks
from web import settings
from web.app import make_app
from web.server import process

TOP = Path(__file__).parent.parent
PASSWORD = "knock knock knock"
METRICS_TOKEN = "the-token-of-the-metrics"
TABLES = (
    "users, sessions, conversations, participants, messages, notifications,"
    " telegram_codes, telegram_requests, telegram_refusals, telegram_cursors, recovery_codes, invitations, blocks,"
    " former_names, earlier_texts, stale_cards, push_devices"
)
PATIENCE = 10.0
"""Seconds to wait for what must come."""

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Without one, each HTTP client loads the certificates of the machine, which takes longer than a request."""


def free_port() -> int:
    """A port that is free, and below those that the system gives to connections of other tests."""
    while True:
        port = 11_000 + randbelow(20_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def migrate(environ: Mapping[str, str]) -> None:
    """Make the tables. Alembic's environment reads that of this process."""
    with mock.patch.dict(os.environ, environ):
        command.upgrade(Config(TOP / "alembic.ini"), "head")


@contextmanager
def running(environ: Mapping[str, str], **more: str) -> Iterator["Site"]:
    """`python -m web` on a free port, with the variables of `environ` and `more`."""
    site = Site({**environ, "PORT": str(free_port()), **more})
    try:
        site.start()
        yield site
    finally:
        site.stop()


@contextmanager
def in_this_process(environ: Mapping[str, str], **more: str) -> Iterator["Site"]:
    """One web process as a thread of this one: starts at once, and a test can patch its clock and its bounds."""
    site = Site({**environ, "PORT": str(free_port()), **more})
    chosen = settings.read(site.environ)
    config = process.config(chosen, make_app(chosen))
    config.port, config.timeout_graceful_shutdown = chosen.port, 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield site
    finally:
        server.should_exit = True
        thread.join(20)
        site.close_clients()


@dataclass
class Site:
    """A web server, in as many processes as WEB_PROCESSES says."""

    environ: Mapping[str, str]
    checkout: Path = TOP
    process: subprocess.Popen[bytes] | None = None
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environ['PORT']}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "web"], cwd=self.checkout, env={**os.environ, **self.environ}
        )
        eventually(self.answers, patience=120)

    def stop(self, with_signal: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(with_signal)
            self.process.wait(20)
            self.process = None
        self.close_clients()

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that serve, apart from the supervisor."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "web.server.process" in child.cmdline()]

    def kill(self) -> None:
        """The supervisor and its processes, all at once."""
        assert self.process is not None
        workers = self.workers
        self.process.kill()
        for worker in workers:
            worker.kill()
        self.process.wait(20)
        self.process = None

    def client(self, cookies: Mapping[str, str] | None = None) -> httpx.Client:
        """A browser without JavaScript; with the cookies of another one, the same browser on another connection."""
        client = httpx.Client(base_url=self.url, timeout=PATIENCE, cookies=dict(cookies or {}), verify=_NO_TLS)
        self.clients.append(client)
        return client

    def metrics(self) -> httpx.Response:
        return self.client().get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})

    def close_clients(self) -> None:
        while self.clients:
            self.clients.pop().close()

    def person(self, username: str) -> "Person":
        """Somebody who registered here and logged in."""
        person = Person(username, self)
        person.register()
        person.log_in()
        return person

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the site ended by itself"
        try:
            return self.client().get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


@dataclass
class Person:
    """A user and their browser, without JavaScript: cookies, pages, forms, and sockets when a test opens them."""

    username: str
    site: Site
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = self.site.client()

    def register(self) -> httpx.Response:
        return self.http.post("/register", data={"username": self.username, "password": PASSWORD})

    def log_in(self, next: str = "") -> httpx.Response:
        answer = self.http.post("/login", data={"username": self.username, "password": PASSWORD, "next": next})
        leaks.cookies.update(self.cookies.values())
        return answer

    def log_out(self) -> httpx.Response:
        return self.http.post("/logout")

    def page(self, path: str) -> "Page":
        response = self.http.get(path, follow_redirects=True)
        return Page(response)

    def post(self, to: str, body: str, nonce: str | None = None) -> httpx.Response:
        leaks.wrote(body)
        return self.http.post(f"/chat/{to}/messages", data={"body": body, "nonce": nonce or token_hex(8)})

    def another_browser(self) -> "Person":
        other = Person(self.username, self.site)
        other.log_in()
        return other

    @property
    def cookies(self) -> dict[str, str]:
        return dict(self.http.cookies)

    @contextmanager
    def socket(self, site: Site | None = None) -> Iterator["Tab"]:
        with connect(
            (site or self.site).url.replace("http", "ws") + "/ws",
            additional_headers={"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())},
            open_timeout=PATIENCE,
            max_size=None,
        ) as websocket:
            yield Tab(websocket)

    @contextmanager
    def sockets(self) -> Iterator[list["Tab"]]:
        """A socket at each process of the site, one process after the other being the only one that accepts it."""
        with ExitStack() as stack:
            yield [stack.enter_context(self._socket_at(worker)) for worker in self.site.workers]

    @contextmanager
    def _socket_at(self, worker: psutil.Process) -> Iterator["Tab"]:
        others = [other for other in self.site.workers if other != worker]
        for other in others:
            other.suspend()
        with ExitStack() as stack:
            try:
                tab = stack.enter_context(self.socket())
            finally:
                for other in others:
                    other.resume()
            yield tab


class Page:
    """An answer that is HTML."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.html = BeautifulSoup(response.text, "html.parser")

    @property
    def bodies(self) -> list[str]:
        return [message.body for message in messages(self.html)]

    @property
    def chats(self) -> list[str]:
        return [name.get_text() for name in self.html.select("#chats .name")]

    @property
    def errors(self) -> str:
        return " ".join(error.get_text() for error in self.html.select(".error, .send-refused"))

    def one(self, selector: str) -> Tag:
        found = self.html.select(selector)
        assert len(found) == 1, f"{len(found)} of {selector} in:\n{self.html}"
        return found[0]


@dataclass(frozen=True)
class Shown:
    """A message as a page, a frame or a fragment shows it."""

    id: str
    seq: int
    version: int
    author: str
    nonce: str
    body: str


def messages(html: Tag) -> list[Shown]:
    return [
        Shown(
            str(item["id"]),
            int(str(item["data-seq"])),
            int(str(item["data-version"])),
            str(item["data-author"]),
            str(item["data-nonce"]),
            item.select(".message-body")[0].get_text(),
        )
        for item in html.select("li[id^=message-]")
    ]


class Tab:
    """An open socket."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self._arrived: list[Shown] = []

    def send(self, **frame: str) -> None:
        self.websocket.send(json.dumps(frame))

    def write(self, to: str, body: str, nonce: str | None = None) -> str:
        nonce = nonce or token_hex(8)
        leaks.wrote(body)
        self.send(action="send", to=to, body=body, nonce=nonce)
        return nonce

    def frame(self, patience: float = PATIENCE) -> BeautifulSoup:
        """The next frame. Raises TimeoutError if none comes."""
        text = self.websocket.recv(patience)
        assert isinstance(text, str)
        assert text.startswith("<")
        return BeautifulSoup(text, "html.parser")

    def message(self, patience: float = PATIENCE) -> Shown:
        """The next message; a frame may bring several, and frames without one are skipped."""
        deadline = time.monotonic() + patience
        while not self._arrived:
            self._arrived = messages(self.frame(max(0.0, deadline - time.monotonic())))
        return self._arrived.pop(0)

    def entry(self, patience: float = PATIENCE) -> Tag:
        """The next entry of the chat list."""
        return self.next("[id^=chat-]", patience)

    def refusal(self, patience: float = PATIENCE) -> Tag:
        return self.next(".send-refused", patience)

    def is_open(self) -> bool:
        """Whether the server still answers here: it refuses a frame that it cannot read."""
        self.websocket.send("")
        return bool(self.refusal())

    def next(self, selector: str, patience: float = PATIENCE) -> Tag:
        """The next element that matches; frames without one are skipped."""
        deadline = time.monotonic() + patience
        while True:
            if found := self.frame(max(0.0, deadline - time.monotonic())).select(selector):
                return found[0]

    def hears_nothing_for(self, seconds: float) -> bool:
        try:
            self.frame(seconds)
        except TimeoutError:
            return True
        return False

    def close_code(self, patience: float = PATIENCE) -> int | None:
        """The code with which the server closes this socket; None if it does not in time."""
        deadline = time.monotonic() + patience
        try:
            while True:
                self.websocket.recv(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            return None
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


def eventually(is_so: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until it is so. Raises AssertionError if it is not in time."""
    deadline = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {patience} s"
        time.sleep(0.05)
