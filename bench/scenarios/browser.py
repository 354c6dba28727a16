"""What one sees of the pages, in Chromium: how soon, how many bytes, how heavy, and what axe and Lighthouse say."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import BrowserContext, BrowserType, Page, sync_playwright

from bench import people, servers
from bench.load import TOP
from bench.run import Run
from bench.scenarios import pages
from bench.scenarios.scale import CONVERSATIONS, LENGTHEN

CHATS = 52
SHORT, LONG = people.name(2), people.name(1)
SIZES = {SHORT: 50, LONG: 20_000}
"""Messages of two of the chats."""
WINDOWS = ((360, 740), (768, 1024), (1440, 900))
SLOW = {"offline": False, "latency": 150, "downloadThroughput": 200_000, "uploadThroughput": 200_000}
"""1.6 Mbit/s both ways, in bytes a second, and 150 ms there and back."""
ALL_PAGES = ("/login", "/register", "/", f"/chat/{SHORT}", "/users", "/search?q=line", "/settings")
MODULES = TOP / "bench" / "peers" / "node_modules"
AXE = MODULES / "axe-core" / "axe.min.js"
LIGHTHOUSE = MODULES / "lighthouse" / "cli" / "index.js"

WATCH = """
    window.shifted = 0
    window.complaints = []
    const add = (list) => { for (const it of list.getEntries()) if (!it.hadRecentInput) shifted += it.value }
    new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true })
    document.addEventListener("securitypolicyviolation", (event) => complaints.push(event.blockedURI))
"""
CLICK = """
    (name) => new Promise((then) => {
        let began = 0
        const isThere = () => document.querySelector(`#composer[action^="/chat/${name}/"]`)
            && document.querySelector("#pane .message")
        const look = () => isThere() ? requestAnimationFrame(() => setTimeout(() => then(performance.now() - began)))
            : requestAnimationFrame(look)
        const link = document.querySelector(`#chats a[href="/chat/${name}"]`)
        link.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }))
        setTimeout(() => { began = performance.now(); link.click(); look() }, 80)
    })
"""
"""From the click, which comes 80 ms after one presses, until a frame with the messages has been painted, in ms."""
KEYS = """
    () => { window.frames_ = []; document.querySelector("#body").addEventListener("keydown", (event) => {
        const channel = new MessageChannel()
        channel.port1.onmessage = () => frames_.push(performance.now() - event.timeStamp)
        requestAnimationFrame(() => channel.port2.postMessage(0))
    }, true) }
"""
"""From a key to the end of its frame, as the browser's own clock has both."""


def browser(run: Run) -> None:
    pages.page(run)  # before these people have so many chats
    with run.base.postgres() as postgres:
        people.make(postgres, CHATS + 1)
        postgres.execute(CONVERSATIONS, {"others": [people.name(number) for number in range(1, CHATS + 1)]})
        for other, messages in SIZES.items():
            postgres.execute(LENGTHEN, {"other": other, "messages": messages})
        cookie = people.cookies(postgres, run.base.settings, [people.name(0)])[0]
    with servers.knock(run.base) as server, sync_playwright() as playwright:
        site = _Site(playwright.chromium, f"http://127.0.0.1:{server.port}", cookie)
        _clicks(run, site)
        _bytes(run, site)
        _first_paint(run, site)
        _long_chat(run, site)
        _faults(run, site)
        _lighthouse(run, site)


def _executable() -> str:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        raise RuntimeError("This needs Chromium, which scripts/test installs; or name it: CHROMIUM=/path/to/chromium")
    return found


class _Site:
    """Knock, as one person sees it."""

    def __init__(self, chromium: BrowserType, url: str, cookie: str) -> None:
        name, _, value = cookie.partition("=")
        self.chromium, self.url = chromium, url
        self.cookies: list[Any] = [
            {"name": name, "value": value, "url": url},
            {"name": "scripts", "value": "12", "url": url},
        ]
        self._browser = chromium.launch(executable_path=_executable(), args=["--no-sandbox"])

    @contextmanager
    def window(self, *, signed_in: bool = True, **options: Any) -> Iterator[BrowserContext]:
        """A browser that has never been here before."""
        context = self._browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        if signed_in:
            context.add_cookies(self.cookies)
        yield context
        context.close()

    def open(self, context: BrowserContext, path: str) -> Page:
        page = context.new_page()
        page.goto(self.url + path)
        page.wait_for_selector("body[data-socket=open]")
        return page


def _clicks(run: Run, site: _Site) -> None:
    run.say("clicks on chats")
    new: dict[str, list[float]] = {SHORT: [], LONG: []}
    again: dict[str, list[float]] = {SHORT: [], LONG: []}
    switched: list[int] = []
    for _ in range(3 if run.is_quick else 15):
        with site.window() as context:
            page = site.open(context, "/")
            page.wait_for_timeout(300)
            for name in (SHORT, LONG):
                with _counted(page) as received:
                    new[name].append(page.evaluate(CLICK, name))
                    page.wait_for_timeout(300)
                switched.append(sum(received))
            for name in (SHORT, LONG):
                again[name].append(page.evaluate(CLICK, name))
                page.wait_for_timeout(200)
    for name, messages in SIZES.items():
        run.record(f"click until a chat of {messages:,} messages is painted", "Knock", median(new[name]), "ms")
        run.record(f"the same, of a chat seen before, {messages:,}", "Knock", median(again[name]), "ms")
    run.record("bytes of a chat switch", "Knock", median(switched), "bytes")


@contextmanager
def _counted(page: Page) -> Iterator[list[int]]:
    """The bytes of each answer, with its head, compressed as they come."""
    received: list[int] = []
    devtools = page.context.new_cdp_session(page)
    devtools.on("Network.loadingFinished", lambda event: received.append(int(event["encodedDataLength"])))
    devtools.send("Network.enable")
    yield received
    devtools.detach()


def _bytes(run: Run, site: _Site) -> None:
    with site.window() as context:
        context.clear_cookies(name="scripts")  # which a page of ours sets
        page = context.new_page()
        with _counted(page) as received:
            page.goto(f"{site.url}/chat/{SHORT}", wait_until="networkidle")
    run.record("bytes of a cold chat page, all in", "Knock", sum(received), "bytes")


def _first_paint(run: Run, site: _Site) -> None:
    run.say("first paint on a slow line")
    painted = []
    for _ in range(3 if run.is_quick else 7):
        with site.window() as context:
            context.clear_cookies(name="scripts")
            page = context.new_page()
            devtools = context.new_cdp_session(page)
            devtools.send("Network.enable")
            devtools.send("Network.emulateNetworkConditions", SLOW)
            page.goto(f"{site.url}/chat/{SHORT}")
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
            painted.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    run.record("first paint, cold, 1.6 Mbit/s and 150 ms", "Knock", median(painted), "ms")


def _long_chat(run: Run, site: _Site) -> None:
    run.say("2,000 messages up, and typing there")
    with site.window() as context:
        page = site.open(context, f"/chat/{LONG}")
        first = SIZES[LONG]
        while int(page.input_value("#first")) > SIZES[LONG] - 2000:
            page.evaluate("document.querySelector('.chat .scroll').scrollTo(0, -1e6)")
            page.wait_for_function("before => document.querySelector('#first').value !== before", arg=str(first))
            first = int(page.input_value("#first"))
        page.wait_for_timeout(500)
        elements = page.evaluate("document.querySelectorAll('*').length")
        page.evaluate(KEYS)
        page.focus("#body")
        for letter in "The quick brown fox jumps over the lazy dog. " * (1 if run.is_quick else 4):
            page.keyboard.press(letter if letter != " " else "Space")
            page.wait_for_timeout(40)
        frames = page.evaluate("frames_")
    run.record("elements after 2,000 messages up", "Knock", elements, "")
    run.record("key to frame there", "Knock", median(frames), "ms")
    run.record("key to frame there, at most", "Knock", max(frames), "ms")


class _Said:
    """What a page says in its console."""

    count = 0

    def hear(self, _said: object) -> None:
        self.count += 1


def _faults(run: Run, site: _Site) -> None:
    """Of every page, in every size, light and dark."""
    run.say("faults of every page")
    shift, complaints, violations = 0.0, 0, 0
    for width, height in WINDOWS:
        for scheme in ("light", "dark"):
            for path in ALL_PAGES:
                options = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
                with site.window(signed_in=path not in ("/login", "/register"), **options) as context:
                    context.add_init_script(WATCH)
                    page = context.new_page()
                    said = _Said()
                    page.on("console", said.hear)
                    page.on("pageerror", said.hear)
                    page.goto(site.url + path)
                    page.wait_for_timeout(700)
                    shift = max(shift, page.evaluate("shifted"))
                    complaints += said.count + len(page.evaluate("complaints"))
                    page.evaluate(AXE.read_text())
                    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
                    violations += len(found)
                    run.record(
                        f"faults of {path}, {width}, {scheme}", "Knock", said.count + len(found), "", found=found
                    )
    every = f"{len(ALL_PAGES)} pages, {len(WINDOWS)} sizes, light and dark"
    run.record(f"layout shift, the largest of {every}", "Knock", shift, "")
    run.record("console messages and violations of the policy", "Knock", complaints, "")
    run.record("findings of axe", "Knock", violations, "")


def _lighthouse(run: Run, site: _Site) -> None:
    for path, is_signed_in in (("/login", False), (f"/chat/{SHORT}", True)):
        run.say(f"Lighthouse on {path}")
        with TemporaryDirectory() as folder:
            port, report = servers.free_port(), Path(folder) / "report.json"
            # Lighthouse shares its cookies. What it can be told goes with the page alone, not with what that asks for.
            context = site.chromium.launch_persistent_context(
                folder, executable_path=_executable(), args=["--no-sandbox", f"--remote-debugging-port={port}"]
            )
            if is_signed_in:
                context.add_cookies(site.cookies)
            command = [
                servers.node(),
                str(LIGHTHOUSE),
                site.url + path,
                f"--port={port}",
                "--disable-storage-reset",
                "--quiet",
                "--output=json",
                f"--output-path={report}",
            ]
            subprocess.run(command, check=True)
            context.close()
            found = json.loads(report.read_text())
        for category in found["categories"].values():
            audits = [found["audits"][it["id"]] for it in category["auditRefs"]]
            below = {
                it["id"]: it.get("displayValue", "") for it in audits if it["score"] is not None and it["score"] < 1
            }
            measure = f"Lighthouse, mobile, {path}, {category['title']}"
            run.record(measure, "Knock", 100 * category["score"], "of 100", below=below)
