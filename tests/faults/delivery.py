"""Messages, while web processes die, connections are cut and commits are late."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from secrets import token_hex

from aiohttp import ClientTimeout

from tests.faults import audit
from tests.faults.figures import Figure, at_most, exactly, measured, percentile
from tests.faults.page import Page, browser
from tests.faults.parts import Parts, children, eventually, kill
from tests.faults.scenario import chats, loaded, write


@dataclass(frozen=True)
class WebKilled:
    """{sends:,} sends by {people} people while a web process is killed with -9 {kills} times"""

    sends: int = 10_000
    people: int = 50
    kills: int = 10
    rate: float = 120.0

    async def run(self, parts: Parts) -> list[Figure]:
        with parts.site() as site:
            async with chats(parts, [site.url], self.people) as pages:
                writing = asyncio.create_task(write(pages, self.sends, self.rate))
                for _ in range(self.kills):
                    await asyncio.sleep(self.sends / self.rate / (self.kills + 1))
                    kill(random.choice(children(site)))
                await writing
                seconds = await audit.settled(parts, pages)
                blackouts = [seconds for page in pages for seconds in page.blackouts]
                return [
                    *audit.figures(parts, pages),
                    measured("sockets lost and back", len(blackouts)),
                    measured("blackout, p50", percentile(blackouts, 50), " s"),
                    measured("blackout, p99", percentile(blackouts, 99), " s"),
                    measured("all settled after the last send in", seconds, " s"),
                ]


@dataclass(frozen=True)
class SameNonce:
    """the same nonce {times} times at once at two processes"""

    times: int = 100

    async def run(self, parts: Parts) -> list[Figure]:
        one_process = {"WEB_PROCESSES": "1"}
        with parts.site(**one_process) as one, parts.site(**one_process) as other:
            async with browser() as http:
                page, _ = await loaded(parts, http, [one.url], 2)
                nonce, body = token_hex(8), token_hex(8)

                async def post(url: str) -> str:
                    path = f"{url}/chat/{page.to}/messages"
                    headers = {"Cookie": page.me.cookie, "HX-Request": "true"}
                    form = {"body": body, "nonce": nonce}
                    async with http.post(path, data=form, headers=headers, timeout=ClientTimeout(30)) as answer:
                        return f"{answer.status} {await answer.text()}"

                answers = await asyncio.gather(*(post((one, other)[n % 2].url) for n in range(self.times)))
                return [
                    exactly("rows", len(audit.rows(parts, page)), 1),
                    exactly("different answers", len(set(answers)), 1),
                    exactly("errors", sum(not answer.startswith("200 ") for answer in answers), 0),
                ]


@dataclass(frozen=True)
class Cuts:
    """{people} clients cut for {shortest:g} to {longest:g} s at random during {sends:,} messages"""

    people: int = 200
    sends: int = 2000
    shortest: float = 1.0
    longest: float = 30.0
    seconds: float = 60.0

    async def run(self, parts: Parts) -> list[Figure]:
        with parts.site() as site:
            async with chats(parts, [site.url], self.people) as pages:
                cutting = [asyncio.create_task(self._cut(page)) for page in pages]
                await write(pages, self.sends, self.sends / self.seconds)
                cuts = sum(await asyncio.gather(*cutting))
                seconds = await audit.settled(parts, pages)
                return [
                    measured("cuts", cuts),
                    *audit.figures(parts, pages),
                    measured("all settled after the last cut in", seconds, " s"),
                ]

    async def _cut(self, page: Page) -> int:
        """Cut the page now and then until the time is up. Returns how often."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.seconds
        cuts = 0
        while True:
            await asyncio.sleep(random.uniform(0, self.seconds / 3))
            if loop.time() > until:
                return cuts
            page.cut()
            await asyncio.sleep(random.uniform(self.shortest, self.longest))
            page.mend()
            cuts += 1


@dataclass(frozen=True)
class LateCommit:
    """an earlier `seq` commits {delay_ms:g} ms late while a reader catches up, {rounds:,} rounds"""

    rounds: int = 1000
    chats: int = 100
    delay_ms: float = 500.0

    async def run(self, parts: Parts) -> list[Figure]:
        one_process = {"WEB_PROCESSES": "1"}
        with (
            parts.before_postgres() as (proxy, through),
            parts.site(**one_process, **through) as late,
            parts.site(**one_process) as prompt,
        ):
            async with browser() as http:
                proxy.slow = b"FOR NO KEY UPDATE"  # only the writer's connection
                # Both people of each chat; the reader is at the site that commits promptly.
                writers = await loaded(parts, http, [late.url, prompt.url], 2 * self.chats)
                reader_skips = 0
                rounds = -(-self.rounds // self.chats)
                for _ in range(rounds):
                    # Half on the statement's way to PostgreSQL, half on its answer's way back; it commits in between.
                    proxy.delay = self.delay_ms / 1000 / 2
                    posts = asyncio.gather(*(_post(page) for page in writers))
                    while not posts.done():
                        reader_skips += sum(await asyncio.gather(*(_caught_up(page) for page in writers[1::2])))
                    await posts
                    proxy.delay = 0.0
                for page in writers:
                    await _caught_up(page)
                return [
                    measured("rounds", rounds * self.chats),
                    exactly("catch-ups that skipped something", reader_skips, 0),
                    *audit.figures(parts, writers),
                ]


async def _post(page: Page) -> None:
    nonce = await page.write(token_hex(8))
    while nonce in page.outbox:
        await page.post(page.outbox[nonce])


async def _caught_up(page: Page) -> bool:
    """Catch up as the page does. Returns whether anything is missing below the page's new cursor."""
    answer = await page.fetch(f"/chat/{page.to}/messages?after={page.cursor}")
    if answer is not None:
        page.take(answer)
    versions = {shown.version for shown in page.shown.values()}
    return not versions >= set(range(1, page.cursor + 1))


@dataclass(frozen=True)
class BetweenPageAndSocket:
    """a message inserted between page render and socket open, {loads:,} loads"""

    loads: int = 1000
    at_once: int = 20

    async def run(self, parts: Parts) -> list[Figure]:
        with parts.site() as site:
            async with browser() as http:
                writers = await loaded(parts, http, [site.url], 2 * self.at_once)
                missed = await asyncio.gather(
                    *(self._load(writers[2 * n], writers[2 * n + 1]) for n in range(self.at_once))
                )
                return [
                    measured("loads", self.at_once * (self.loads // self.at_once)),
                    exactly("messages missed", sum(missed), 0),
                ]

    async def _load(self, writer: Page, reader: Page) -> int:
        missed = 0
        for _ in range(self.loads // self.at_once):
            page = Page(reader.http, reader.me, reader.to, reader.url)
            await page.load()
            nonce = await writer.write(token_hex(8))
            posting = asyncio.create_task(writer.post(writer.outbox[nonce]))
            await asyncio.sleep(random.uniform(0, 0.02))  # before, while or after the socket opens
            async with page.live():
                await eventually(lambda: nonce in page.arrived, patience=5, pause=0.005)  # noqa: B023
            await posting
            missed += nonce not in page.arrived
        return missed


@dataclass(frozen=True)
class Stampede:
    """{clients} clients reconnecting at once"""

    clients: int = 500

    async def run(self, parts: Parts) -> list[Figure]:
        with parts.site() as site:
            async with browser() as http, AsyncExitStack() as stack:
                pages = await loaded(parts, http, [site.url], self.clients, reads=False)
                for page in pages:
                    await stack.enter_async_context(page.live())
                await eventually(lambda: all(page.is_open for page in pages))
                for page in pages:
                    page.attempts.clear()
                for page in pages:
                    page.drop()
                await eventually(lambda: all(page.blackouts for page in pages), patience=60)
                attempts = sorted(moment for page in pages for moment in page.attempts)
                blackouts = [seconds for page in pages for seconds in page.blackouts]
                return [
                    measured("attempts", len(attempts)),
                    at_most("attempts in any 250 ms", 100 * _crowd(attempts, 0.25) / len(attempts), 25, " %"),
                    exactly("clients that came back", sum(bool(page.blackouts) for page in pages), len(pages)),
                    exactly("answers that refused them", sum(len(page.errors) for page in pages), 0),
                    measured("blackout, p50", percentile(blackouts, 50), " s"),
                    measured("blackout, p99", percentile(blackouts, 99), " s"),
                ]


def _crowd(moments: Sequence[float], width: float) -> int:
    """The most of the sorted moments that lie within one width."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] > width:
            first += 1
        most = max(most, last - first + 1)
    return most
