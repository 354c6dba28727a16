"""Half an hour of pages that come and go, to find what web processes leak."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from tests.faults import audit
from tests.faults.figures import Figure, at_most, measured
from tests.faults.page import Page, browser
from tests.faults.parts import Parts, children, eventually
from tests.faults.scenario import loaded, write
from tests.site import Site


@dataclass(frozen=True)
class Soak:
    """{minutes:g} minutes of {sockets} sockets that come and go"""

    minutes: float = 30.0
    sockets: int = 300
    rate: float = 5.0

    async def run(self, parts: Parts) -> list[Figure]:
        with parts.site() as site:
            async with browser() as http:
                everybody = await loaded(parts, http, [site.url], self.sockets, reads=False)
                await self._warm(everybody)
                files, clients, memory = _files(site), _clients(parts), _memory(site)
                idle = await self._idle(site, everybody, memory)
                samples = await self._come_and_go(site, everybody)
                await eventually(lambda: _files(site) <= files + 5 and _clients(parts) <= clients + 5, patience=60)
                early, late = samples[len(samples) // 6], samples[-1]
                return [
                    at_most("memory growth after minute 5", 100 * (late - early) / early, 5, " %"),
                    measured("memory of all web processes at the end", late / 2**20, " MiB"),
                    at_most("file descriptors more than before", _files(site) - files, 5),
                    at_most("Redis clients more than before", _clients(parts) - clients, 5),
                    at_most("an idle socket", idle / 1024, 40, " KiB"),
                    *audit.figures(parts, await self._reloaded(everybody)),
                ]

    async def _warm(self, pages: Sequence[Page]) -> None:
        """Use everything once, so that what is allocated only once is there."""
        async with AsyncExitStack() as stack:
            for page in pages:
                await stack.enter_async_context(page.live())
            await eventually(lambda: all(page.is_open for page in pages), patience=60)
            await write(pages, len(pages), 50)
        await asyncio.sleep(10)

    async def _idle(self, site: Site, pages: Sequence[Page], before: float) -> float:
        """Memory of one idle socket in the web processes, in bytes."""
        async with AsyncExitStack() as stack:
            for page in pages:
                await stack.enter_async_context(page.live())
            await eventually(lambda: all(page.is_open for page in pages), patience=60)
            await asyncio.sleep(10)
            return (_memory(site) - before) / len(pages)

    async def _come_and_go(self, site: Site, everybody: Sequence[Page]) -> list[float]:
        """Memory of the web processes in bytes, every half minute."""
        until = asyncio.get_running_loop().time() + 60 * self.minutes
        coming = [asyncio.create_task(self._visit(page, until)) for page in everybody]
        writing = asyncio.create_task(write(everybody, int(60 * self.minutes * self.rate), self.rate))
        samples = []
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(min(30.0, self.minutes))
            samples.append(_memory(site))
        await asyncio.gather(writing, *coming)
        return samples

    async def _visit(self, page: Page, until: float) -> None:
        while asyncio.get_running_loop().time() < until:
            async with page.live():
                await asyncio.sleep(random.uniform(5, 60))
                await eventually(lambda: not page.outbox, patience=30, pause=0.5)
            await asyncio.sleep(random.uniform(0, 5))

    async def _reloaded(self, pages: Sequence[Page]) -> Sequence[Page]:
        """The pages, after one more visit."""
        async with AsyncExitStack() as stack:
            for page in pages:
                await stack.enter_async_context(page.live())
            await eventually(lambda: all(page.is_open and not page.outbox for page in pages), patience=60)
            await asyncio.sleep(5)
        return pages


def _memory(site: Site) -> float:
    """Memory that only the web processes hold (USS), in bytes."""
    return float(sum(child.memory_full_info().uss for child in children(site)))


def _files(site: Site) -> int:
    return sum(child.num_fds() for child in children(site))


def _clients(parts: Parts) -> int:
    return len(parts.valkey.client_list())
