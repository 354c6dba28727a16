"""Faults that need a real browser: a socket that swallows bytes, and a hidden tab."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from playwright.async_api import BrowserContext, Error, async_playwright
from playwright.async_api import Page as Tab

from tests.faults import audit
from tests.faults.figures import Figure, at_most, exactly, measured
from tests.faults.page import Page, browser
from tests.faults.parts import Parts, Somebody, eventually
from tests.faults.proxy import Proxy
from tests.faults.scenario import loaded, write

OUTBOX = "JSON.parse(localStorage.getItem('knock-outbox-' + document.body.dataset.me) || '[]').length"
WATCH = """
    globalThis.writtenAt = performance.now();
    globalThis.shownAt = Infinity;
    const isShown = () => document.body.innerText.includes("Not sent yet");
    const look = () => isShown() && (shownAt = Math.min(shownAt, performance.now()));
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
"""
"""An observer, since the words are shown only for a moment if the retry works at once."""
PATIENCE = 60_000
"""Milliseconds."""


@asynccontextmanager
async def chromium(url: str, person: Somebody) -> AsyncIterator[BrowserContext]:
    """A browser that is signed in as `person`.

    Not started by Playwright, which makes every tab believe that it is visible.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        program = os.environ.get("CHROMIUM") or "/usr/bin/chromium"
        process = await asyncio.create_subprocess_exec(
            *(
                program,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
            ),
            *("--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"),
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            port = Path(folder) / "DevToolsActivePort"
            assert await eventually(lambda: port.exists() and port.read_text().count("\n"))
            address = f"http://127.0.0.1:{port.read_text().split()[0]}"
            async with async_playwright() as playwright:
                connected = await playwright.chromium.connect_over_cdp(address, no_defaults=True)
                context = connected.contexts[0]
                context.set_default_timeout(PATIENCE)
                name, _, value = person.cookie.partition("=")
                await context.add_cookies([{"name": name, "value": value, "url": url}])
                yield context
        finally:
            process.terminate()
            await process.wait()


@dataclass(frozen=True)
class Swallowed:
    """a socket that swallows bytes, and a reload of its page"""

    receives_again: float = 40.0

    async def run(self, parts: Parts) -> list[Figure]:
        with parts.site() as site:
            port = int(site.environ["PORT"])
            with Proxy(("127.0.0.1", port)).running() as proxy:
                async with browser() as http:
                    me, partner = await loaded(parts, http, [f"http://127.0.0.1:{proxy.port}", site.url], 2)
                    async with chromium(me.url, me.me) as context:
                        tab = await context.new_page()
                        await tab.goto(f"{me.url}/chat/{me.to}")
                        await _is_open(tab)

                        proxy.swallow(b"GET /ws")
                        started = time.monotonic()
                        await tab.evaluate(WATCH)
                        first = await _write(tab)
                        await tab.locator("[data-seq]").get_by_text(first).wait_for()
                        sent_after = time.monotonic() - started
                        shown_after = await tab.evaluate("shownAt - writtenAt") / 1000
                        received_after = await _receives(tab, partner, self.receives_again)

                        await tab.reload()
                        await _is_open(tab)
                        proxy.swallow(b"GET /ws")
                        second = await _write(tab)
                        await tab.reload()
                        survives = await tab.locator("#pending").get_by_text(second).count()
                        await tab.locator("[data-seq]").get_by_text(second).wait_for()
                        left = await tab.evaluate(OUTBOX)
                    stored = [row.body for row in audit.rows(parts, me)]
                    return [
                        at_most("“Not sent yet” after", shown_after, 10, " s"),
                        measured("sent by the retry after", sent_after, " s"),
                        exactly("its rows", stored.count(first), 1),
                        at_most("its page receives messages again after", received_after, self.receives_again, " s"),
                        exactly("in the outbox after a reload", survives, 1),
                        exactly("its rows, after the reload", stored.count(second), 1),
                        exactly("left in the outbox", left, 0),
                    ]


@dataclass(frozen=True)
class HiddenTab:
    """a tab hidden for {seconds:g} s, {messages} messages"""

    seconds: float = 120.0
    messages: int = 50

    async def run(self, parts: Parts) -> list[Figure]:
        with parts.site() as site:
            async with browser() as http:
                me, partner = await loaded(parts, http, [site.url], 2)
                async with chromium(me.url, me.me) as context:
                    tab = await context.new_page()
                    await tab.goto(f"{me.url}/chat/{me.to}")
                    await _is_open(tab)
                    await (await context.new_page()).bring_to_front()
                    premise = await tab.evaluate("document.hidden")
                    async with partner.live():
                        await write([partner], self.messages, self.messages / self.seconds)
                        await audit.settled(parts, [partner])
                    started = time.monotonic()
                    await tab.bring_to_front()
                    await tab.locator("[data-seq]").nth(self.messages - 1).wait_for()
                    shown_after = time.monotonic() - started
                    shown = await tab.locator("[data-seq] .message-body").all_inner_texts()
                    return [
                        exactly("the tab was hidden", bool(premise), True),
                        at_most("all shown after its return in", shown_after, 2, " s"),
                        exactly("list equals PostgreSQL's", shown == [row.body for row in audit.rows(parts, me)], True),
                    ]


async def _is_open(tab: Tab) -> None:
    await tab.locator("body[data-socket=open]").wait_for()


async def _write(tab: Tab) -> str:
    words = token_hex(8)
    await tab.locator("#body").fill(words)
    await tab.keyboard.press("Enter")
    return words


async def _receives(tab: Tab, partner: Page, patience: float) -> float:
    """Seconds until a message that the partner writes now is shown; more than `patience` if it never is."""
    started = time.monotonic()
    words = token_hex(8)
    nonce = await partner.write(words)
    await partner.post(partner.outbox[nonce])
    try:
        await tab.locator("[data-seq]").get_by_text(words).wait_for(timeout=1000 * patience)
    except Error:
        return patience + 1
    return time.monotonic() - started
