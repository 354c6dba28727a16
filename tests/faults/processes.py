"""Web processes that end, are replaced, hang, or have clients that never read."""

import asyncio
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from aiohttp import ClientSession, ClientTimeout

from tests.faults import audit
from tests.faults.figures import Figure, at_most, exactly, measured, percentile
from tests.faults.page import LOST, browser
from tests.faults.parts import Parts, Somebody, children, eventually
from tests.faults.scenario import chats, delays, loaded, write
from tests.site import Site

BLOCK_LOOP = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep({seconds}))
"""
"""A sitecustomize module: on SIGUSR1 a web process blocks its event loop, as a bug might."""


@dataclass(frozen=True)
class Terminated:
    """SIGTERM with {sockets} sockets, one of them stuck"""

    sockets: int = 200

    async def run(self, parts: Parts) -> list[Figure]:
        with parts.site() as site:
            async with chats(parts, [site.url], self.sockets, reads=False) as pages, browser() as http:
                stuck, partner = await loaded(parts, http, [site.url], 2)
                await eventually(lambda: all(page.is_open for page in pages))
                with _deaf(site, stuck.me):
                    async with partner.live():
                        await write([partner], 50, 100, length=4000)
                        await eventually(lambda: not partner.outbox)
                    assert site.process is not None
                    started = time.monotonic()
                    site.process.terminate()
                    await asyncio.to_thread(site.process.wait, 30)
                    seconds = time.monotonic() - started
                codes = [page.close_codes[-1] if page.close_codes else 0 for page in pages]
                return [
                    at_most("gone within", seconds, 10, " s"),
                    exactly("sockets not closed with 1012", sum(code != 1012 for code in codes), 0),
                ]


@dataclass(frozen=True)
class RollingRestart:
    """a rolling restart with {sockets} sockets and {rate:g} requests/s"""

    sockets: int = 400
    rate: float = 50.0
    sends: int = 400

    async def run(self, parts: Parts) -> list[Figure]:
        with parts.site() as site:
            async with chats(parts, [site.url], self.sockets) as pages, browser() as http:
                await eventually(lambda: all(page.is_open for page in pages))
                old = {child.pid for child in children(site)}
                ended = asyncio.Event()
                requesting = asyncio.create_task(_request(http, site, pages[0].me, self.rate, ended))
                writing = asyncio.create_task(write(pages, self.sends, self.rate / 2))
                await asyncio.sleep(1)
                assert site.process is not None
                site.process.send_signal(signal.SIGHUP)
                replaced = await eventually(lambda: not old & {child.pid for child in children(site)}, patience=60)
                await writing
                await eventually(lambda: all(page.is_open for page in pages))
                await audit.settled(parts, pages)
                ended.set()
                requests, failed = await requesting
                blackouts = [seconds for page in pages for seconds in page.blackouts]
                return [
                    exactly("processes all replaced", replaced, True),
                    measured("requests", requests),
                    exactly("requests failed", failed, 0),
                    measured("sockets lost and back", len(blackouts)),
                    measured("blackout, p50", percentile(blackouts, 50), " s"),
                    at_most("blackout, p99", percentile(blackouts, 99), 3, " s"),
                    *audit.figures(parts, pages),
                ]


@dataclass(frozen=True)
class NeverRead:
    """{deaf} clients that never read while {rate:g} messages/s flow"""

    deaf: int = 100
    people: int = 20
    rate: float = 50.0
    seconds: float = 30.0

    async def run(self, parts: Parts) -> list[Figure]:
        with parts.site() as site:
            async with chats(parts, [site.url], self.people, reads=False) as pages, AsyncExitStack() as stack:
                await eventually(lambda: all(page.is_open for page in pages))
                readers = [page.me for page in pages]
                deaf = [stack.enter_context(_deaf(site, readers[n % len(readers)])) for n in range(self.deaf)]
                ports = {connection.getsockname()[1] for connection in deaf}
                premise = len(ports & _open_ports(site))
                started = time.monotonic()
                # Long messages, so that those for deaf clients soon exceed the kernel's buffers.
                sending = asyncio.create_task(write(pages, int(self.rate * self.seconds), self.rate, length=2000))
                cut_after: list[float] = []
                while not sending.done():
                    await asyncio.sleep(0.5)
                    left = ports & await asyncio.to_thread(_open_ports, site)
                    cut_after += [time.monotonic() - started] * (len(ports) - len(left))
                    ports = left
                await sending
                await audit.settled(parts, pages)
                waits = delays(pages)
                return [
                    exactly("deaf clients", premise, self.deaf),
                    exactly("deaf clients cut", len(cut_after), self.deaf),
                    at_most("the last one cut after", max(cut_after, default=self.seconds), 15, " s"),
                    measured("messages that the others got", len(waits)),
                    at_most("the others' wait, p95", 1000 * percentile(waits, 95), 300, " ms"),
                    *audit.figures(parts, pages),
                ]


@dataclass(frozen=True)
class StandingStill:
    """an event loop blocked for {seconds:g} s"""

    seconds: float = 15.0
    sends: int = 60

    async def run(self, parts: Parts) -> list[Figure]:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "sitecustomize.py").write_text(BLOCK_LOOP.format(seconds=self.seconds))
            with parts.site(PYTHONPATH=folder) as site:
                async with chats(parts, [site.url], 4) as pages:
                    await eventually(lambda: all(page.is_open for page in pages))
                    # One that serves: the other may still be starting.
                    victim = next(child for child in children(site) if _peers(child))
                    started = time.monotonic()
                    writing = asyncio.create_task(write(pages, self.sends, 4))
                    victim.send_signal(signal.SIGUSR1)

                    def is_replaced() -> bool:
                        left = {child.pid for child in children(site)}
                        return victim.pid not in left and len(left) == 2

                    replaced = await eventually(is_replaced)
                    seconds = time.monotonic() - started
                    await writing
                    await audit.settled(parts, pages)
                    return [
                        exactly("its process replaced", replaced, True),
                        at_most("replaced within", seconds, 15, " s"),
                        *audit.figures(parts, pages),
                    ]


@contextmanager
def _deaf(site: Site, person: Somebody) -> Iterator[socket.socket]:
    """A WebSocket of that user that is never read from, with a tiny receive buffer."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", int(site.environ["PORT"])))
        lines = [
            "GET /ws HTTP/1.1",
            f"Host: 127.0.0.1:{site.environ['PORT']}",
            f"Cookie: {person.cookie}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OUFCQ0RFRg==",
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert b" 101 " in connection.recv(64)
        yield connection


def _open_ports(site: Site) -> set[int]:
    """The clients' ports of the connections that the site holds."""
    return {port for child in children(site) for port in _peers(child)}


def _peers(process: psutil.Process) -> set[int]:
    try:
        return {each.raddr.port for each in process.net_connections("tcp") if each.raddr}
    except psutil.Error:
        return set()


async def _request(http: ClientSession, site: Site, me: Somebody, rate: float, ended: asyncio.Event) -> tuple[int, int]:
    """Load the chat list `rate` times a second until `ended`. Returns how often, and how often it failed."""

    async def request() -> bool:
        try:
            headers = {"Cookie": me.cookie}
            async with http.get(f"{site.url}/", headers=headers, timeout=ClientTimeout(30)) as answer:
                await answer.read()
                return answer.status == 200
        except LOST:
            return False

    requesting = []
    while not ended.is_set():
        requesting.append(asyncio.create_task(request()))
        await asyncio.sleep(1 / rate)
    answered = await asyncio.gather(*requesting)
    return len(answered), answered.count(False)
