"""A real Chromium for each person. A test fails if a page logs an error or a warning."""

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any, Protocol, TypeVar

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.site import PASSWORD, Person, Site

T = TypeVar("T")

COMPLAINTS = (
    "document.addEventListener('securitypolicyviolation', (event) => console.error('CSP: ' + event.blockedURI))"
)


class Window:
    """The browser of one person, with one tab at first."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        self.context = context
        self.site = site
        self.complaints: list[str] = []
        self.excused: list[str] = []
        """Complaints that the test causes on purpose, for instance by killing the server."""
        context.add_init_script(COMPLAINTS)
        context.set_default_timeout(20_000)
        self.page = self.tab()

    def tab(self, path: str = "") -> Page:
        page = self.context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        if path:
            page.goto(self.site.url + path)
        return page

    def log_in(self, username: str) -> None:
        self.page.goto(self.site.url + "/login")
        self.page.get_by_label("Username").fill(username)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Log in").click()

    def open(self, path: str) -> Page:
        self.page.goto(self.site.url + path)
        return self.page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def end(self) -> None:
        self.context.close()
        unexcused = [words for words in self.complaints if not any(excuse in words for excuse in self.excused)]
        assert unexcused == []


class Windows(Protocol):
    """Opens a window, signed in as `person` if there is one; the options are those of a Playwright context."""

    def __call__(self, person: Person | None = None, *, site: Site | None = None, **options: Any) -> Window: ...


class Background:
    """An event loop in a thread of its own, since Playwright's runs in the main thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.stack = AsyncExitStack()
        """What is entered here is open until the test ends."""

    def do(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    def end(self) -> None:
        try:
            self.do(self.stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class Edit(Protocol):
    """Edits a message of the chat of two people, as its author."""

    def __call__(self, author: Person, other: Person, seq: int, body: str) -> None: ...


@pytest.fixture(scope="package")  # while it is open, Playwright's event loop runs, and this thread can have no other
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=15_000)  # the machine may have other things to do
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM"), args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def window(chromium: Browser, site: Site) -> Iterator[Windows]:
    everybodys = site
    opened: list[Window] = []

    def open_window(person: Person | None = None, *, site: Site | None = None, **options: Any) -> Window:
        window = Window(chromium.new_context(**options), site or everybodys)
        opened.append(window)
        if person is not None:
            window.log_in(person.username)
            window.page.wait_for_url(window.site.url + "/")
        return window

    yield open_window
    for window in opened:
        window.end()


@pytest.fixture
def background() -> Iterator[Background]:
    background = Background()
    yield background
    background.end()


@pytest.fixture
def edit() -> Edit:
    def edit(author: Person, other: Person, seq: int, body: str) -> None:
        answer = author.http.post(f"/chat/{other.username}/messages/{seq}", data={"body": body})
        assert answer.status_code == 303

    return edit
