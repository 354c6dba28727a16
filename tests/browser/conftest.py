"""A real Chromium for each person; whatever a page complains about fails the test."""

import os
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.site import PASSWORD, Person, Site

COMPLAINTS = (
    "document.addEventListener('securitypolicyviolation', (event) => console.error('CSP: ' + event.blockedURI))"
)


class Window:
    """A browser of one person's, with one tab to begin with."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        self.context = context
        self.site = site
        self.complaints: list[str] = []
        self.excused: list[str] = []
        """What the test does itself and the browser rightly complains about, such as a server that is killed."""
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
    """Opens a window for a person who is registered, signed in; the options are Playwright's, of a context."""

    def __call__(self, person: Person | None = None, *, site: Site | None = None, **options: Any) -> Window: ...


@pytest.fixture(scope="package")  # while it is open Playwright has an event loop running, and so nobody else can
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
