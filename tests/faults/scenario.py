"""What all scenarios have in common."""

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
    """Something that breaks while people write; its docstring says what, and its fields how much of it."""

    async def run(self, parts: Parts) -> list[Figure]:
        """Do it on these parts, which have been cleaned. Returns what was measured."""


@asynccontextmanager
async def chats(parts: Parts, urls: Sequence[str], people: int, *, reads: bool = True) -> AsyncIterator[list[Page]]:
    """New people, two by two in a chat, each with its page open and live; their sites take turns."""
    async with browser() as http, AsyncExitStack() as stack:
        pages = await loaded(parts, http, urls, people, reads=reads)
        for page in pages:
            await stack.enter_async_context(page.live())
        yield pages


async def loaded(
    parts: Parts, http: ClientSession, urls: Sequence[str], people: int, *, reads: bool = True
) -> list[Page]:
    """The pages of new people, two by two in a chat; not live yet."""
    everybody = await parts.people(people + people % 2)
    pages = []
    for number, person in enumerate(everybody[:people]):
        page = Page(http, person, everybody[number ^ 1].username, urls[number % len(urls)], reads=reads)
        await page.load()
        pages.append(page)
    return pages


async def write(pages: Sequence[Page], count: int, rate: float, length: int = 0) -> None:
    """So many messages, one after another by each of the pages in turn, so many a second, of at least that length."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number in range(count):
        await asyncio.sleep(max(0.0, started + number / rate - loop.time()))
        await pages[number % len(pages)].write(f"{number} {token_hex(8)}".ljust(length, "."))


def delays(pages: Sequence[Page]) -> list[float]:
    """Seconds from each message's writing until the other one's page showed it; of what was shown there."""
    shown = {nonce: page.arrived[nonce] for page in pages for nonce in page.arrived if nonce not in page.written}
    return [shown[nonce] - at for page in pages for nonce, at in page.written.items() if nonce in shown]


async def answers(http: ClientSession, url: str, until: asyncio.Event, pause: float = 0.05) -> list[float]:
    """Ask for /livez again and again; returns the seconds of each answer, which its event loop had to find time for."""
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
