"""A running site, and the people who use it, as the tests see them: through HTTP and WebSocket, like any program."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

import httpx2 as httpx
import psutil
from bs4 import BeautifulSoup, Tag
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

TOP = Path(__file__).parent.parent
PASSWORD = "knock knock knock"
PATIENCE = 10.0
"""Seconds to wait for something that must come."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def running(environ: Mapping[str, str], **more: str) -> Iterator["Site"]:
    """`python -m web` on a free port, with the variables of `environ` and `more`."""
    site = Site({**environ, "PORT": str(free_port()), **more})
    site.start()
    try:
        yield site
    finally:
        site.stop()


@dataclass
class Site:
    """A web server of our own, in as many processes as WEB_PROCESSES says."""

    environ: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environ['PORT']}"

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "web"], cwd=TOP, env={**os.environ, **self.environ})
        eventually(self.answers, patience=30)

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
        """A browser without JavaScript; with the cookies of another one, the same browser by another connection."""
        client = httpx.Client(base_url=self.url, timeout=PATIENCE, cookies=dict(cookies or {}))
        self.clients.append(client)
        return client

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
    """A user with a browser that has no JavaScript: cookies, pages, forms; and a socket when it is asked for one."""

    username: str
    site: Site
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = self.site.client()

    def register(self) -> httpx.Response:
        return self.http.post("/register", data={"username": self.username, "password": PASSWORD})

    def log_in(self, next: str = "") -> httpx.Response:
        return self.http.post("/login", data={"username": self.username, "password": PASSWORD, "next": next})

    def log_out(self) -> httpx.Response:
        return self.http.post("/logout")

    def page(self, path: str) -> "Page":
        response = self.http.get(path, follow_redirects=True)
        return Page(response)

    def post(self, to: str, body: str, nonce: str | None = None) -> httpx.Response:
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


class Page:
    """An answer that is HTML, with the questions that tests ask of it."""

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
        self.send(action="send", to=to, body=body, nonce=nonce)
        return nonce

    def frame(self, patience: float = PATIENCE) -> BeautifulSoup:
        """The next frame. Raises TimeoutError where none comes."""
        text = self.websocket.recv(patience)
        assert isinstance(text, str)
        assert text.startswith("<")
        return BeautifulSoup(text, "html.parser")

    def message(self, patience: float = PATIENCE) -> Shown:
        """The next message, of those that a frame brings together; frames that bring none are passed over."""
        deadline = time.monotonic() + patience
        while not self._arrived:
            self._arrived = messages(self.frame(max(0.0, deadline - time.monotonic())))
        return self._arrived.pop(0)

    def entry(self, patience: float = PATIENCE) -> Tag:
        """The next entry of the chat list; frames that bring none are passed over."""
        deadline = time.monotonic() + patience
        while True:
            if found := self.frame(max(0.0, deadline - time.monotonic())).select("[id^=chat-]"):
                return found[0]

    def refusal(self, patience: float = PATIENCE) -> Tag:
        deadline = time.monotonic() + patience
        while True:
            if found := self.frame(max(0.0, deadline - time.monotonic())).select(".send-refused"):
                return found[0]

    def hears_nothing_for(self, seconds: float) -> bool:
        try:
            self.frame(seconds)
        except TimeoutError:
            return True
        return False

    def close_code(self, patience: float = PATIENCE) -> int | None:
        """With which code the server closes this socket; None where it does not in time."""
        deadline = time.monotonic() + patience
        try:
            while True:
                self.websocket.recv(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            return None
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


def eventually(is_so: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until it is so. Raises AssertionError where it does not become so in time."""
    deadline = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {patience} s"
        time.sleep(0.05)
