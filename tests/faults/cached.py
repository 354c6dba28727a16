"""Cached lists, compared with PostgreSQL's."""

import asyncio
import random
import re
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from aiohttp import ClientTimeout

from tests.faults import page as pages
from tests.faults.figures import Figure, at_most, exactly, measured
from tests.faults.page import browser
from tests.faults.parts import Parts
from tests.faults.scenario import loaded
from web import settings
from web import site as sites
from web.chat import history
from web.chat.cache import LENGTH
from web.chat.conversations import Conversation

ROWS = """
    SELECT seq, version, username, nonce, body FROM messages JOIN users ON users.id = author_id
    WHERE conversation_id = %s AND seq <= %s ORDER BY seq DESC LIMIT %s
"""


def wrong(parts: Parts) -> list[str]:
    """Keys of cached lists that PostgreSQL never held: another order, another text, or a version from the future."""
    return [key for key in parts.valkey.scan_iter("latest:*") if not _is_right(parts, key)]


def _is_right(parts: Parts, key: str) -> bool:
    cached = [str(each) for each in parts.valkey.lrange(key, 0, -1) or ()]
    if not cached:
        return True  # dropped since
    version, last_seq = map(int, cached[0].split(":"))
    conversation = int(key.rpartition(":")[2])
    rows = [pages.Shown(*row) for row in parts.query(ROWS, conversation, last_seq, LENGTH)][::-1]
    held = [shown for text in cached[1:] for shown in pages.messages(text)]
    # These scenarios edit nothing, so the version is that of the newest message.
    return held == rows and (not rows or version == rows[-1].version)


@dataclass(frozen=True)
class SlowReader:
    """a slow reader against a writer on one cached list, {pairs:,} pairs"""

    pairs: int = 10_000
    at_once: int = 20

    async def run(self, parts: Parts) -> list[Figure]:
        chosen = settings.read({**parts.environ, "PORT": "8000"})
        async with sites.running(chosen) as one, sites.running(chosen) as other:
            people = await parts.people(2 * self.at_once)
            races = []
            for low, high in zip(people[::2], people[1::2], strict=True):
                conversation = await one["conversations"].find(low.id, high.username)
                conversation = await one["conversations"].begin(conversation)
                races.append(self._race(conversation, one, other))
            found = [sum(column) for column in zip(*await asyncio.gather(*races), strict=True)]
            return [
                measured("pairs", found[0]),
                exactly("lists read that were not PostgreSQL's", found[1], 0),
                exactly("lists cached that were not PostgreSQL's", len(wrong(parts)), 0),
                measured("lists cached by the slow reader", found[2]),
                measured("cached lists checked at the end", len(list(parts.valkey.scan_iter("latest:*")))),
            ]

    async def _race(self, conversation: Conversation, one: Any, other: Any) -> tuple[int, int, int]:
        """The writer uses one process, the readers the other. Returns pairs, wrong lists, lists that were cached."""
        differing = filled = 0
        author, reader = conversation.people
        pairs = self.pairs // self.at_once
        for _ in range(pairs):
            writing = await one["messages"].post(author.id, reader.username, token_hex(4), token_hex(8))
            reading = asyncio.create_task(self._read_slowly(conversation, other))
            posted = await writing
            shown = await other["latests"].of(conversation, posted.message.version)
            stored = await history.load_latest(other["reader"], conversation)
            if (shown.version, list(shown.messages)) != (stored.version, list(stored.messages)):
                differing += 1
            filled += await reading
        return pairs, differing, filled

    async def _read_slowly(self, conversation: Conversation, other: Any) -> bool:
        """Read the list from PostgreSQL and cache it, when the writer may already have changed it."""
        latest = await history.load_latest(other["reader"], conversation)
        await asyncio.sleep(random.uniform(0, 0.01))
        await other["latests"]._cached.fill(conversation.id, latest)
        found = await other["latests"]._cached.read(conversation.id, latest.version)
        return found is not None and found.version == latest.version


@dataclass(frozen=True)
class ColdReaders:
    """{readers} cold readers at once"""

    readers: int = 500

    async def run(self, parts: Parts) -> list[Figure]:
        with parts.site() as site:
            async with browser() as http:
                page, _ = await loaded(parts, http, [site.url], 2)
                for _ in range(LENGTH + 10):
                    nonce = await page.write(token_hex(8))
                    await page.post(page.outbox[nonce])
                parts.valkey.flushall()
                before = await _fills(page)

                async def read() -> int:
                    async with http.get(
                        f"{site.url}/chat/{page.to}", headers={"Cookie": page.me.cookie}, timeout=ClientTimeout(60)
                    ) as answer:
                        shown = list(pages.messages(await answer.text()))
                        return LENGTH if answer.status == 200 and len(shown) == LENGTH else answer.status

                answers = await asyncio.gather(*(read() for _ in range(self.readers)))
                return [
                    at_most("list queries", await _fills(page) - before, 2),
                    exactly("pages without the list", sum(answer != LENGTH for answer in answers), 0),
                    exactly("lists cached that were not PostgreSQL's", len(wrong(parts)), 0),
                ]


async def _fills(page: pages.Page) -> float:
    """How often the site read a list from PostgreSQL for the cache, by its own metrics."""
    async with page.http.get(f"{page.url}/metrics") as answer:
        found = re.search(r'knock_cache_total\{event="fill"\} (\S+)', await answer.text())
    return float(found[1]) if found else 0.0
