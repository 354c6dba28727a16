"""Valkey and PostgreSQL refused, frozen, wiped, full, restarted and down, while people write."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from secrets import token_hex

import redis
from aiohttp import ClientSession, ClientTimeout

from tests.faults import audit, cached
from tests.faults.figures import Figure, at_most, exactly, measured
from tests.faults.page import LOST, Page, browser
from tests.faults.parts import Parts, eventually
from tests.faults.scenario import answers, chats, write

PORTION = 0.5
"""Seconds of writing between two looks."""


@dataclass(frozen=True)
class ValkeyAway:
    """Valkey refused {refused:g} s, frozen {frozen:g} s, wiped, out of memory {full:g} s"""

    refused: float = 60.0
    frozen: float = 30.0
    full: float = 10.0
    between: float = 3.0
    people: int = 20
    rate: float = 20.0

    async def run(self, parts: Parts) -> list[Figure]:
        one_process = {"WEB_PROCESSES": "1"}
        with (
            parts.before_valkey() as (proxy, through),
            parts.site(**one_process, **through) as one,
            parts.site(**one_process, **through) as other,
        ):
            urls = [one.url, other.url]
            async with chats(parts, urls, self.people) as pages:
                await eventually(lambda: all(page.is_open for page in pages))
                figures = await self._phase("at rest", parts, pages, urls, lambda: None, lambda: None, self.between)
                figures += await self._phase("refused", parts, pages, urls, proxy.refuse, proxy.accept, self.refused)
                figures += await self._phase("frozen", parts, pages, urls, proxy.freeze, proxy.thaw, self.frozen)
                figures += await self._phase(
                    "wiped", parts, pages, urls, parts.valkey.flushall, lambda: None, self.between
                )
                figures += await self._phase(
                    "out of memory", parts, pages, urls, lambda: _fill(parts), lambda: _empty(parts), self.full
                )
                return figures + audit.figures(parts, pages)

    async def _phase(
        self,
        name: str,
        parts: Parts,
        pages: Sequence[Page],
        urls: Sequence[str],
        begin: Callable[[], object],
        end: Callable[[], object],
        seconds: float,
    ) -> list[Figure]:
        """Write while Valkey is broken, then measure how soon all pages are complete again."""
        over = asyncio.Event()
        known = {nonce for page in pages for nonce in page.acknowledged}
        async with browser() as http:
            requesting = [asyncio.create_task(answers(http, url, over)) for url in urls]
            await asyncio.to_thread(begin)
            writing = asyncio.create_task(write(pages, int(self.rate * seconds), self.rate))
            opened = [await _status(http, page) for page in pages]
            await writing
            await asyncio.to_thread(end)
            live = await audit.settled(parts, pages, patience=30)
            over.set()
            lags = [lag for each in await asyncio.gather(*requesting) for lag in each]
        sends = [took for page in pages for nonce, took in page.acknowledged.items() if nonce not in known]
        return [
            exactly(f"{name}: pages not served", sum(status != 200 for status in opened), 0),
            measured(f"{name}: sends", len(sends)),
            at_most(f"{name}: slowest send", max(sends), 2, " s"),
            at_most(f"{name}: slowest answer of the loop", 1000 * max(lags), 250, " ms"),
            at_most(f"{name}: live again after its return in", live, 5, " s"),
            exactly(f"{name}: lists cached that were not PostgreSQL's", len(cached.wrong(parts)), 0),
        ]


def _fill(parts: Parts) -> None:
    """Limit memory so that every command that needs some is refused."""
    parts.valkey.config_set("maxmemory", "1")
    try:
        parts.valkey.set("one-more", "1")
    except redis.ResponseError:
        return
    raise AssertionError("Valkey takes more than its limit")


def _empty(parts: Parts) -> None:
    parts.valkey.config_set("maxmemory", "256mb")


@dataclass(frozen=True)
class PostgresAway:
    """PostgreSQL restarted `immediate`, then down {down:g} s"""

    down: float = 30.0
    requests: int = 100
    people: int = 20

    async def run(self, parts: Parts) -> list[Figure]:
        with parts.site() as site:
            async with chats(parts, [site.url], self.people) as pages, browser() as http:
                await eventually(lambda: all(page.is_open for page in pages))
                await write(pages, 2 * self.people, 40)
                await asyncio.to_thread(_restart, parts)
                failed = [await _status(http, page) != 200 for page in _turns(pages, self.requests)]
                await write(pages, self.people, 40)
                after_restart = await audit.settled(parts, pages)

                await asyncio.to_thread(parts.stop_postgres)
                stopped = time.monotonic()
                writing = asyncio.create_task(write(pages, self.people, self.people / self.down))
                refusals = []
                while time.monotonic() - stopped < self.down:
                    refusals.append(await _refusal(http, pages[0]))
                    await asyncio.sleep(0.2)
                keeps = await _keeps_text(http, pages[0])
                await writing
                waiting = sum(len(page.outbox) for page in pages)
                await asyncio.to_thread(parts.start_postgres)
                started = time.monotonic()
                while await _status(http, pages[0]) != 200 and time.monotonic() - started < 30:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                back = time.monotonic() - started
                settled = await audit.settled(parts, pages)
                return [
                    exactly(f"of the next {self.requests} requests failed", sum(failed), 0),
                    measured("restarted: all settled in", after_restart, " s"),
                    measured("down: requests", len(refusals)),
                    exactly("down: not answered 503 with Retry-After", sum(not right for right, _ in refusals), 0),
                    at_most("down: slowest 503", max(took for _, took in refusals), 3, " s"),
                    exactly("down: a form's text is lost", not keeps, False),
                    measured("down: messages that waited in outboxes", waiting),
                    at_most("back: first page after", back, 5, " s"),
                    measured("back: all settled in", settled, " s"),
                    *audit.figures(parts, pages),
                ]


def _restart(parts: Parts) -> None:
    parts.stop_postgres()
    parts.start_postgres()


def _turns(pages: Sequence[Page], count: int) -> Sequence[Page]:
    return [pages[number % len(pages)] for number in range(count)]


async def _status(http: ClientSession, page: Page) -> int:
    try:
        path, headers = f"{page.url}/chat/{page.to}", {"Cookie": page.me.cookie}
        async with http.get(path, headers=headers, timeout=ClientTimeout(20)) as answer:
            await answer.read()
            return answer.status
    except LOST:
        return 0


async def _refusal(http: ClientSession, page: Page) -> tuple[bool, float]:
    """Whether a page is refused with 503 and Retry-After, and the seconds that took."""
    started = time.monotonic()
    try:
        path, headers = f"{page.url}/chat/{page.to}", {"Cookie": page.me.cookie}
        async with http.get(path, headers=headers, timeout=ClientTimeout(20)) as answer:
            await answer.read()
            right = answer.status == 503 and answer.headers.get("Retry-After", "").isdigit()
            return right, time.monotonic() - started
    except LOST:
        return False, time.monotonic() - started


async def _keeps_text(http: ClientSession, page: Page) -> bool:
    """Whether the answer to a form sent without JavaScript contains its text."""
    words = token_hex(8)
    form = {"body": words, "nonce": token_hex(8)}
    path, headers = f"{page.url}/chat/{page.to}/messages", {"Cookie": page.me.cookie}
    async with http.post(path, data=form, headers=headers, timeout=ClientTimeout(20)) as answer:
        return words in await answer.text()
