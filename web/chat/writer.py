"""The way of a message into PostgreSQL: everything that arrived while one transaction was under way is the next one.

There is no timer: a lone message is written at once, and under load one commit carries many.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from web import loops, metrics
from web.chat import fragments, messages
from web.chat.conversations import Pair
from web.chat.insert import Batches, Sent
from web.chat.list_updates import ChatLists
from web.chat.messages import Posted, Refused
from web.data.postgres import UNAVAILABLE
from web.live.hub import Hub
from web.live.relay import Relay

log = logging.getLogger(__name__)

BATCH = 1000
"""Messages in one transaction at the most."""
QUEUE = 5000
"""Messages that wait for PostgreSQL at the most; the next one is refused in words."""


@dataclass(slots=True)
class Draft:
    """A message on its way into PostgreSQL."""

    pair: Pair
    author_id: int
    body: str
    nonce: str
    key: tuple[int, int, str]
    """What makes two sends the same message."""
    posted: asyncio.Future[Posted]


@dataclass(frozen=True, slots=True)
class Written:
    """What a transaction did: the drafts that it was asked for, and the rows with which PostgreSQL answered."""

    batch: Sequence[Draft]
    sent: Sequence[Draft]
    """Those of the batch that PostgreSQL was given: each message once."""
    rows: Sequence[tuple[Any, ...]]


class Writer:
    """One per process. While PostgreSQL has one batch, the one before it is announced, and its authors answered."""

    def __init__(self, engine: AsyncEngine, hub: Hub, chat_lists: ChatLists, relay: Relay) -> None:
        self._batches = Batches(engine)
        self._hub = hub
        self._chat_lists = chat_lists
        self._relay = relay
        self._drafts: deque[Draft] = deque()
        self._more = asyncio.Event()
        self._written: asyncio.Queue[Written] = asyncio.Queue(1)
        self._loop = asyncio.get_running_loop()  # to ask for it costs a system call

    def write(self, pair: Pair, author_id: int, body: str, nonce: str) -> asyncio.Future[Posted]:
        """The message once it is committed; a nonce that was there before gives the message it gave then.

        Raises Refused, here or in the future.
        """
        if len(self._drafts) >= QUEUE:
            raise Refused("Too many messages are waiting right now.", retry=True, cause="queue")
        draft = Draft(pair, author_id, body, nonce, (pair.id, author_id, nonce), self._loop.create_future())
        self._drafts.append(draft)
        self._more.set()
        return draft.posted

    @property
    def is_behind(self) -> bool:
        """Whether more is waiting than one transaction takes."""
        return len(self._drafts) > BATCH

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            async with loops.loops(self._write_forever, self._answer_forever):
                yield
        finally:
            await self._batches.disconnect()

    async def _write_forever(self) -> None:
        while True:
            await self._more.wait()
            await asyncio.sleep(0)  # whatever else stands at a socket already comes along
            batch = [self._drafts.popleft() for _ in range(min(BATCH, len(self._drafts)))]
            if not self._drafts:
                self._more.clear()
            await self._settle(batch)

    async def _settle(self, batch: Sequence[Draft]) -> None:
        """Write the batch, or refuse it; one bad message takes no other with it."""
        sent = list({draft.key: draft for draft in batch}.values())
        try:
            rows = await self._batches.write(list(map(_sent, sent)))
        except Exception as error:
            if isinstance(error, UNAVAILABLE):
                refused = Refused("Knock cannot keep messages at the moment.", retry=True, cause="database")
            elif len(batch) > 1:
                middle = len(batch) // 2
                await self._settle(batch[:middle])
                await self._settle(batch[middle:])
                return
            else:
                log.exception("A message could not be written")
                refused = Refused("This message could not be kept.", cause="error")
            for draft in batch:
                if not draft.posted.done():
                    draft.posted.set_exception(refused)
            return
        await self._written.put(Written(batch, sent, rows))

    async def _answer_forever(self) -> None:
        while True:
            await self._answer(await self._written.get())

    async def _answer(self, written: Written) -> None:
        """Tell everybody whom it concerns, in the order of commits."""
        posted_by_key: dict[tuple[int, int, str], Posted] = {}
        new: dict[int, list[Posted]] = defaultdict(list)
        due, again = [], []
        for kind, number, seq, version, body, created_at in written.rows:
            if kind == "due":
                due.append(number)
                continue
            draft = written.sent[number - 1]
            is_new = kind == "new"
            posted = _posted(draft, seq, version, draft.body if is_new else body, created_at, is_new=is_new)
            posted_by_key[draft.key] = posted
            if is_new:
                new[draft.pair.id].append(posted)
            elif kind == "again":
                again.append(posted)
        metrics.BATCH.observe(len(written.batch))
        metrics.MESSAGES.inc(sum(map(len, new.values())))
        await asyncio.sleep(0)  # the sockets have their turn, and PostgreSQL the next batch
        for added in new.values():
            added.sort(key=lambda posted: posted.seq)
            messages.announce(self._hub, self._chat_lists, self._relay, added)
        self._relay.enqueue(due)
        for posted in again:
            messages.announce_again(self._hub, self._chat_lists, posted)
        for draft in written.batch:
            if not draft.posted.done():  # the page may have gone, and its view been cancelled
                draft.posted.set_result(posted_by_key[draft.key])


def _sent(draft: Draft) -> Sent:
    return {
        "conversation_id": draft.pair.id,
        "author_id": draft.author_id,
        "recipient_id": draft.pair.other(draft.author_id).id,
        "nonce": draft.nonce,
        "body": draft.body,
    }


def _posted(draft: Draft, seq: int, version: int, body: str, created_at: datetime, *, is_new: bool) -> Posted:
    pair, author_id, nonce = draft.pair, draft.author_id, draft.nonce
    html = fragments.message(pair, seq, version, author_id, nonce, body, created_at)
    return Posted(pair, author_id, body, seq, version, created_at, html, is_new)
