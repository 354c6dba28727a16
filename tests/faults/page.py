"""A tab as the server sees it: what `static/app.js` and hx-ws do with a chat, without a browser.

It loads the page and opens the socket, again and again with the delays of `templates/signed_in.html`. At each open it
catches up from its cursor. The higher version of a message wins. A message that was written waits in the outbox until
its nonce arrives, and is posted by HTTP if that takes too long. tests/browser/test_same_rules.py compares it with the
page in a real browser.
"""

import asyncio
import html
import json
import random
import re
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from secrets import token_hex
from typing import NamedTuple

import aiohttp
from aiohttp import ClientError, ClientSession, ClientTimeout, ClientWebSocketResponse, DummyCookieJar, TCPConnector

from tests.faults.parts import Somebody

LOST = (ClientError, OSError, TimeoutError)

DELAY, JITTER, LONGEST_DELAY = 0.9, 0.9, 8.0
"""Seconds between two attempts, as in `templates/signed_in.html`."""
COMES_BACK = {1001, 1005, 1006, 1008, 1009, 1011, 1012, 1013, 1014}
QUEUE = 100
"""How many frames hx-ws keeps until the socket is open."""
OVERDUE = 5.0
AGAIN = 3.0
"""Seconds after which a failed catch-up is repeated."""

_MESSAGE = re.compile(r'<li id="message-\d+-\d+"([^>]*)>(.*?)</li>', re.DOTALL)
_ATTRIBUTE = re.compile(r'data-(seq|version|author|nonce)="([^"]*)"')
_QUOTE = re.compile(
    r'class="message-quote" data-seq="(\d+)"[^>]*?(data-gone)?(?: data-changed)?><b>.*?<span dir="auto">(.*?)</span>'
)
_REACTION = re.compile(r'class="reaction" data-emoji="([^"]+)"(.*?)</button>')
_REACTED = re.compile(r'data-author="([^"]+)"')
_ENTRY = re.compile(r'<li id="chat-\d+"[^>]*? data-version="(\d+)"[^>]*? data-read="(\d+)"(.*?)</li>')
_UNREAD = re.compile(r'class="unread">(\d+)')
_BODY = re.compile(r'<(\w+)[^>]*\bclass="message-body"[^>]*>(.*?)</\1>', re.DOTALL)
_CURSOR = re.compile(r'id="cursor"[^>]*value="(\d+)"')
_FIRST = re.compile(r'id="first"[^>]*value="(\d+)"')
_REFUSED = re.compile(r'class="send-refused" data-nonce="([^"]*)"( data-retry)?')


@dataclass(frozen=True, slots=True)
class Shown:
    """A message on the page."""

    seq: int
    version: int
    author: str
    nonce: str
    body: str
    quote: str = ""
    """The seq of the message that it answers and that one's first line, or "gone"."""
    reactions: str = ""
    """Emoji and usernames, sorted."""


class Entry(NamedTuple):
    """The chat in the list."""

    edition: int = 0
    their_read: int = 0
    unread: int = 0


@dataclass(slots=True)
class Written:
    """A message in the outbox."""

    body: str
    nonce: str
    at: float
    reply_to: str


@dataclass(eq=False)
class Page:
    """The chat of `me` with the user called `to`, in one tab."""

    http: ClientSession
    me: Somebody
    to: str
    url: str
    reads: bool = True
    """Whether it reports how far it was read, as a page in view does."""
    shown: dict[int, Shown] = field(default_factory=dict)
    cursor: int = 0
    first_seq: int = 1
    """The page shows every message from here on."""
    outbox: dict[str, Written] = field(default_factory=dict)
    written: dict[str, float] = field(default_factory=dict)
    """When each nonce was written here."""
    acknowledged: dict[str, float] = field(default_factory=dict)
    """Seconds from the send of each nonce to its acknowledgement."""
    refused: list[str] = field(default_factory=list)
    blackouts: list[float] = field(default_factory=list)
    """Seconds from each loss of the socket to the end of the next catch-up."""
    attempts: list[float] = field(default_factory=list)
    """When it was to connect."""
    close_codes: list[int] = field(default_factory=list)
    arrived: dict[str, float] = field(default_factory=dict)
    """When each nonce was first shown."""
    entry: Entry = field(default_factory=Entry)
    errors: list[str] = field(default_factory=list)
    """HTTP answers that no page should get."""
    _socket: ClientWebSocketResponse | None = None
    _queue: list[str] = field(default_factory=list)
    _lost_at: float | None = None
    _is_retrying: bool = False
    _is_cut: bool = False
    _reported: int = 0
    _ahead: set[int] = field(default_factory=set)
    """Versions that arrived before a lower one."""
    _unloaded: dict[int, Shown] = field(default_factory=dict)
    """Changes of messages that are not loaded yet, by seq."""

    @property
    def is_open(self) -> bool:
        return self._socket is not None and not self._socket.closed

    @property
    def list(self) -> list[Shown]:
        """The messages on the page, in their order."""
        return [self.shown[seq] for seq in sorted(self.shown)]

    async def load(self) -> None:
        """Open the page. Raises ClientError."""
        async with self.http.get(f"{self.url}/chat/{self.to}", headers=self._headers) as answer:
            answer.raise_for_status()
            self.take(await answer.text())

    @asynccontextmanager
    async def live(self) -> AsyncIterator["Page"]:
        """Keep the socket open and retry overdue sends."""
        tasks = [asyncio.create_task(self._stay_connected()), asyncio.create_task(self._retry_forever())]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception):
                    raise ended
            if self._socket is not None:
                await self._socket.close()

    async def write(self, body: str, reply_to: str = "") -> str:
        """Send as Enter in the composer does. Returns the nonce."""
        nonce = token_hex(8)
        self.written[nonce] = time.monotonic()
        self.outbox[nonce] = Written(body, nonce, self.written[nonce], reply_to)
        await self._say(action="send", to=self.to, body=body, nonce=nonce, reply_to=reply_to)
        return nonce

    async def load_older(self) -> None:
        """Scroll up to where the page begins."""
        answer = await self.fetch(f"/chat/{self.to}/messages?before={self.first_seq}")
        assert answer is not None
        self.take(answer)

    async def change(self, seq: int, what: str, **values: str) -> bool:
        """Edit, remove or react to a message as a form does. Returns whether the site has done it."""
        try:
            self._demand_network()
            path = f"{self.url}/chat/{self.to}/messages/{seq}/{what}"
            headers = {**self._headers, "HX-Request": "true"}
            async with self.http.post(path, data=values, headers=headers, timeout=ClientTimeout(10)) as answer:
                if answer.status == 200:
                    self.take(await answer.text())
                return answer.status == 200
        except LOST:
            return False

    def cut(self) -> None:
        """The network goes away."""
        self._is_cut = True
        self.drop()

    def mend(self) -> None:
        """The network is back."""
        self._is_cut = False

    def drop(self) -> None:
        """The connection is reset."""
        connection = self._socket and self._socket._response.connection
        if connection and connection.transport:
            connection.transport.abort()

    @property
    def _headers(self) -> dict[str, str]:
        return {"Cookie": self.me.cookie}

    async def _stay_connected(self) -> None:
        attempt = 0
        self.attempts.append(time.monotonic())
        while True:
            if await self._connected():
                attempt = 0
            if self._lost_at is None:
                self._lost_at = time.monotonic()
            if self.close_codes and self.close_codes[-1] not in COMES_BACK:
                return
            delay = min(DELAY * 2**attempt, LONGEST_DELAY)
            attempt += 1
            delay *= random.uniform(1 - JITTER, 1 + JITTER)
            # The moment it is due, since hundreds of pages in one process delay each other, unlike browsers.
            self.attempts.append(time.monotonic() + delay)
            await asyncio.sleep(delay)

    async def _connected(self) -> bool:
        """Connect, and stay until the connection ends. Returns whether it was ever open."""
        try:
            self._demand_network()
            async with self.http.ws_connect(
                f"{self.url}/ws", headers=self._headers, max_msg_size=0, timeout=aiohttp.ClientWSTimeout(ws_close=1)
            ) as self._socket:
                catching_up = asyncio.create_task(self._catch_up())
                try:
                    await self._opened()
                    async for frame in self._socket:
                        await self._take_frame(frame)
                finally:
                    catching_up.cancel()
                    await asyncio.gather(catching_up, return_exceptions=True)
                self.close_codes.append(self._socket.close_code or 1006)
                return True
        except LOST:
            return False

    async def _opened(self) -> None:
        self._reported = 0
        while self._queue:
            await self._transmit(self._queue.pop(0))
        await self._say(action="view", visible="true" if self.reads else "false")

    async def _take_frame(self, frame: aiohttp.WSMessage) -> None:
        if frame.type is aiohttp.WSMsgType.TEXT:
            assert frame.data.startswith("<")
            self.take(frame.data)
            await self._report_read()

    async def _catch_up(self) -> None:
        """Fetch page after page of changes until none is left, and the chat list."""
        lists = asyncio.create_task(self.fetch("/"))
        while True:
            path = f"/chat/{self.to}/messages?after={self.cursor}&first={self.first_seq}"
            answer = await self.fetch(path)
            if answer is None:
                await asyncio.sleep(AGAIN)
                continue
            before, self.cursor = self.cursor, 0
            self.take(answer)
            if 'id="catch-up"' not in answer:
                break
            assert self.cursor > before, "the catch-up does not advance"
        if self._lost_at is not None:
            self.blackouts.append(time.monotonic() - self._lost_at)
            self._lost_at = None
        await self._report_read()
        self.take(await lists or "")

    async def fetch(self, path: str) -> str | None:
        try:
            self._demand_network()
            headers = {**self._headers, "HX-Request": "true"}
            async with self.http.get(self.url + path, headers=headers, timeout=ClientTimeout(30)) as answer:
                if answer.status == 200:
                    return await answer.text()
                self.errors.append(f"{answer.status} {path}")
        except LOST:
            pass
        return None

    async def _retry_forever(self) -> None:
        while True:
            await asyncio.sleep(1)
            await self._retry()

    async def _retry(self) -> None:
        """Post what is overdue, one by one; after a failure the rest waits for the next turn."""
        due = [item for item in self.outbox.values() if time.monotonic() - item.at > OVERDUE]
        if self._is_retrying or not due:
            return
        self._is_retrying = True
        try:
            for item in due:
                if not await self.post(item):
                    break
        finally:
            self._is_retrying = False

    async def post(self, item: Written) -> bool:
        try:
            self._demand_network()
            async with self.http.post(
                f"{self.url}/chat/{self.to}/messages",
                data={"body": item.body, "nonce": item.nonce, "reply_to": item.reply_to},
                headers={**self._headers, "HX-Request": "true"},
                timeout=ClientTimeout(10),
            ) as answer:
                if answer.status == 200:
                    self.take(await answer.text())
                    self._acknowledge(item.nonce)
                    self.drop()  # the socket lost what HTTP brought, so it may be dead
                elif answer.status in (404, 413, 422):
                    self._refuse(item.nonce)
                return answer.status in (200, 404, 413, 422)
        except LOST:
            return False

    def take(self, text: str) -> None:
        """Put on the page what the server rendered."""
        if first := _FIRST.search(text):
            self.first_seq = int(first[1])
        for message in messages(text):
            self._receive(message)
        for edition, their_read, inside in _ENTRY.findall(text):
            unread = _UNREAD.search(inside)
            self.entry = max(self.entry, Entry(int(edition), int(their_read), int(unread[1]) if unread else 0))
        for nonce, may_retry in _REFUSED.findall(text):
            if nonce and not may_retry:
                self._refuse(nonce)
        if cursor := _CURSOR.search(text):
            self.cursor = int(cursor[1])
        self._ahead = {version for version in self._ahead if version > self.cursor}
        while self.cursor + 1 in self._ahead:
            self.cursor += 1

    def _receive(self, message: Shown) -> None:
        if message.author == self.me.username:
            self._acknowledge(message.nonce)
        self._ahead.add(message.version)
        seq = message.seq
        changed = self._unloaded.get(seq, message)
        newest = changed if changed.version > message.version else message
        held = self.shown.get(seq)
        if held is None and seq < self.first_seq:
            self._unloaded[seq] = newest  # there is a gap between it and the page's first
        elif held is None or held.version <= newest.version:
            self.shown[seq] = newest
            self.arrived.setdefault(newest.nonce, time.monotonic())

    def _acknowledge(self, nonce: str) -> None:
        if item := self.outbox.pop(nonce, None):
            self.acknowledged[nonce] = time.monotonic() - item.at

    def _refuse(self, nonce: str) -> None:
        if self.outbox.pop(nonce, None):
            self.refused.append(nonce)

    async def _report_read(self) -> None:
        last = self.shown[max(self.shown)].version if self.shown else 0
        newest = max(self.cursor, last)
        if self.reads and newest != self._reported and self.is_open:
            self._reported = newest
            await self._say(action="read", to=self.to, version=str(newest))

    async def _say(self, **frame: str) -> None:
        text = json.dumps(frame)
        if self.is_open:
            await self._transmit(text)
        elif frame["action"] == "send" and len(self._queue) < QUEUE:
            self._queue.append(text)

    async def _transmit(self, text: str) -> None:
        """A frame that is sent into a dead socket is lost, and nobody hears of it."""
        assert self._socket is not None
        with suppress(*LOST):
            await self._socket.send_str(text)

    def _demand_network(self) -> None:
        if self._is_cut:
            raise ConnectionError("cut")


def messages(text: str) -> Iterable[Shown]:
    """The messages in the HTML of a page, a frame or a fragment."""
    for attributes, inside in _MESSAGE.findall(text):
        held = {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(attributes)}
        body = _BODY.search(inside)
        assert body is not None
        words = html.unescape(re.sub(r"<[^>]*>", "", body[2]))
        quote = _QUOTE.search(inside)
        quoted = f"{quote[1]} {'gone' if quote[2] else html.unescape(quote[3])}" if quote else ""
        found = [(emoji, _REACTED.findall(who)) for emoji, who in _REACTION.findall(inside)]
        reactions = " ".join(sorted(f"{emoji} {name}" for emoji, names in found for name in names))
        yield Shown(int(held["seq"]), int(held["version"]), held["author"], held["nonce"], words, quoted, reactions)


@asynccontextmanager
async def browser() -> AsyncIterator[ClientSession]:
    """The HTTP client of all pages of a scenario; each page sends its own cookies."""
    connector = TCPConnector(limit=0, keepalive_timeout=4)
    async with ClientSession(connector=connector, cookie_jar=DummyCookieJar()) as session:
        yield session
