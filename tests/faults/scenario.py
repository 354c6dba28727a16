"""What the scenarios share: chats of new people, and messages at a rate."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from secrets import token_hex
from typing import Protocol

from aiohttp import ClientSession

from tests.faults.figures import Figure
from tests.faults.page import LOST, Page, browser
from tests.faults.parts import Parts


class Scenario(Protocol):
    """A fault while people write. Its docstring says what is done, and its fields how much of it."""

    async def run(self, parts: Parts) -> list[Figure]:
        """Run it on parts that have been cleaned. Returns what was measured."""


@asynccontextmanager
async def chats(parts: Parts, urls: Sequence[str], people: int, *, reads: bool = True) -> AsyncIterator[list[Page]]:
    """New people in pairs, each with their chat open and live; the pages take the urls in turn."""
    async with browser() as http, AsyncExitStack() as stack:
        pages = await loaded(parts, http, urls, people, reads=reads)
        for page in pages:
            await stack.enter_async_context(page.live())
        yield pages


async def loaded(
    parts: Parts, http: ClientSession, urls: Sequence[str], people: int, *, reads: bool = True
) -> list[Page]:
    """The pages of new people in pairs, loaded but not live."""
    everybody = await parts.people(people + people % 2)
    pages = []
    for number, person in enumerate(everybody[:people]):
        page = Page(http, person, everybody[number ^ 1].username, urls[number % len(urls)], reads=reads)
        await page.load()
        pages.append(page)
    return pages


async def write(pages: Sequence[Page], count: int, rate: float, length: int = 0) -> None:
    """Write `count` messages of at least `length` characters, `rate` a second, from each page in turn."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number in range(count):
        await asyncio.sleep(max(0.0, started + number / rate - loop.time()))
        await pages[number % len(pages)].write(f"{number} {token_hex(8)}".ljust(length, "."))


def delays(pages: Sequence[Page]) -> list[float]:
    """Seconds from writing each message until the partner's page showed it; without those it did not show."""
    shown = {nonce: page.arrived[nonce] for page in pages for nonce in page.arrived if nonce not in page.written}
    return [shown[nonce] - at for page in pages for nonce, at in page.written.items() if nonce in shown]


async def answers(http: ClientSession, url: str, until: asyncio.Event, pause: float = 0.05) -> list[float]:
    """Request /livez again and again. Returns the seconds of each answer, which show how busy the event loop was."""
    loop = asyncio.get_running_loop()
    taken = []
    while not until.is_set():
        started = loop.time()
        try:
            async with http.get(f"{url}/livez") as answer:
                await answer.read()
        except LOST:
            pass
        taken.append(loop.time() - started)
        await asyncio.sleep(pause)
    return taken
