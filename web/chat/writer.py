"""The way of a message into PostgreSQL: whatever arrives while one transaction runs is the next transaction.

There is no timer: a lone message is written at once, and under load one commit carries many.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup
from sqlalchemy.ext.asyncio import AsyncEngine

from web import loops, metrics
from web.chat import fragments, stored
from web.chat.changes import Announcer, Change, Rendered
from web.chat.conversations import Conversation, Message
from web.chat.insert import Due, Inserter, Kind, Sent, Written
from web.chat.refusals import Cause, Refused
from web.chat.stored import Place
from web.data.postgres import DATABASE_AWAY
from web.data.questions import Reader
from web.words import Sentence

log = logging.getLogger(__name__)

BATCH = 1000
"""Messages in one transaction at most."""
QUEUE = 5000
"""Messages that wait for PostgreSQL at most; the next one is refused."""


class Posted(NamedTuple):
    """A message that PostgreSQL holds."""

    conversation: Conversation
    message: Message
    html: Markup
    is_new: bool
    """False if its nonce had made it this message before."""

    @property
    def swap(self) -> str:
        return fragments.message_swap(self.conversation, self.html)


@dataclass(slots=True)
class Draft:
    """A message on its way into PostgreSQL."""

    conversation: Conversation
    author_id: int
    body: str
    nonce: str
    reply_to: int | None
    key: tuple[int, int, str]
    """What makes two sends the same message."""
    posted: asyncio.Future[Posted]
    arrived: float
    """The loop's time."""


class Batch(NamedTuple):
    """What a transaction did."""

    drafts: Sequence[Draft]
    sent: Sequence[Draft]
    """The drafts that PostgreSQL was given: each message once."""
    outcomes: Sequence[Written | Due]


class Writer:
    """One per process. While PostgreSQL has one batch, the one before is announced and its authors are answered."""

    def __init__(
        self, engine: AsyncEngine, reader: Reader, announcer: Announcer, enqueue: Callable[[Sequence[int]], None]
    ) -> None:
        """`enqueue` hands notification ids to the worker, without blocking."""
        self._inserter = Inserter(engine)
        self._reader = reader
        self._announcer = announcer
        self._enqueue = enqueue
        self._drafts: deque[Draft] = deque()
        self._more = asyncio.Event()
        self._written: asyncio.Queue[Batch] = asyncio.Queue(1)
        self._loop = asyncio.get_running_loop()  # asking for it costs a system call

    def write(
        self, conversation: Conversation, author_id: int, body: str, nonce: str, reply_to: int | None = None
    ) -> asyncio.Future[Posted]:
        """The message, once it is committed; a nonce that was used before gives the message that it made then.

        Raises Refused, here or in the future.
        """
        if len(self._drafts) >= QUEUE:
            raise Refused(Cause.QUEUE, Sentence("Too many messages are waiting right now."), retry=True)
        key = (conversation.id, author_id, nonce)
        posted: asyncio.Future[Posted] = self._loop.create_future()
        draft = Draft(conversation, author_id, body, nonce, reply_to, key, posted, self._loop.time())
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
            async with loops.running(self._write_forever, self._answer_forever):
                yield
        finally:
            await self._inserter.disconnect()

    async def _write_forever(self) -> None:
        while True:
            await self._more.wait()
            await asyncio.sleep(0)  # so that what has already arrived at the sockets comes along
            drafts = [self._drafts.popleft() for _ in range(min(BATCH, len(self._drafts)))]
            if not self._drafts:
                self._more.clear()
            await self._settle(drafts)

    async def _settle(self, drafts: Sequence[Draft]) -> None:
        """Write the drafts, or refuse them; one bad message takes no other with it."""
        sent = list({draft.key: draft for draft in drafts}.values())
        try:
            outcomes = await self._inserter.write(list(map(_sent, sent)))
        except Exception as error:
            if isinstance(error, DATABASE_AWAY):
                refused = Refused(Cause.DATABASE, Sentence("Knock cannot keep messages at the moment."), retry=True)
            elif len(drafts) > 1:
                middle = len(drafts) // 2
                await self._settle(drafts[:middle])
                await self._settle(drafts[middle:])
                return
            else:
                log.exception("A message could not be written")
                refused = Refused(Cause.ERROR, Sentence("This message could not be kept."))
            for draft in drafts:
                if not draft.posted.done():
                    draft.posted.set_exception(refused)
            return
        await self._written.put(Batch(drafts, sent, outcomes))

    async def _answer_forever(self) -> None:
        while True:
            batch = await self._written.get()
            try:
                await self._answer(batch)
            except Exception:
                # The messages are committed, so their pages learn that when they send them again.
                for draft in batch.drafts:
                    if not draft.posted.done():
                        draft.posted.set_exception(Refused(Cause.ERROR, Sentence("Something went wrong."), retry=True))
                raise

    async def _answer(self, batch: Batch) -> None:
        """Announce what is new, in the order of commits, then answer the authors."""
        posted_by_key: dict[tuple[int, int, str], Posted] = {}
        new: dict[int, list[Posted]] = defaultdict(list)
        due, old = [], []
        found = await self._found(batch)
        for outcome in batch.outcomes:
            if isinstance(outcome, Due):
                due.append(outcome.id)
                continue
            draft = batch.sent[outcome.place - 1]
            posted = posted_by_key[draft.key] = _posted(draft, outcome, found)
            if posted.is_new:
                new[draft.conversation.id].append(posted)
            elif outcome.kind == Kind.OLD:
                old.append(posted)
        metrics.BATCH.observe(len(batch.drafts))
        metrics.MESSAGES.inc(sum(map(len, new.values())))
        await asyncio.sleep(0)  # so that the sockets get their turn, and PostgreSQL the next batch
        for appended in new.values():
            self._announcer.announce(_append(appended))
        self._enqueue(due)
        for posted in old:
            # The process that committed it may have died before it could announce it.
            self._announcer.announce_to_pages(posted.conversation, [Rendered(posted.message, posted.html)])
        for draft in batch.drafts:
            if not draft.posted.done():  # cancelled if the page has gone
                draft.posted.set_result(posted_by_key[draft.key])
        metrics.ACKNOWLEDGED.observe(self._loop.time() - batch.drafts[0].arrived)

    async def _found(self, batch: Batch) -> Mapping[Place, Message]:
        """The messages that were known, and those that answer others, which may have changed until the commit."""
        wanted = []
        for outcome in batch.outcomes:
            if isinstance(outcome, Written):
                draft = batch.sent[outcome.place - 1]
                if draft.reply_to or outcome.kind != Kind.NEW:
                    wanted.append(Place(draft.conversation.id, outcome.seq))
        return await stored.at(self._reader, wanted)


def _sent(draft: Draft) -> Sent:
    return {
        "conversation_id": draft.conversation.id,
        "author_id": draft.author_id,
        "nonce": draft.nonce,
        "body": draft.body,
        "held": draft.conversation.is_blocked(draft.author_id),
        "reply_to": draft.reply_to,
    }


def _posted(draft: Draft, written: Written, found: Mapping[Place, Message]) -> Posted:
    message = found.get(Place(draft.conversation.id, written.seq))
    if message is None:
        message = Message(
            seq=written.seq,
            version=written.version,
            author_id=draft.author_id,
            nonce=draft.nonce,
            body=draft.body,
            created_at=written.created_at,
            held=written.held,
        )
    elif written.kind == Kind.NEW:
        # It may have changed since; whoever changed it announces that.
        message = message._replace(version=written.version)
    html = fragments.message(draft.conversation, message)
    return Posted(draft.conversation, message, html, written.kind == Kind.NEW)


def _append(appended: Sequence[Posted]) -> Change:
    """The messages that one transaction appended to a conversation."""
    messages = sorted([Rendered(posted.message, posted.html) for posted in appended])
    first, last = messages[0].message, messages[-1].message
    return Change(appended[0].conversation, first.version - 1, last.version, last.seq, messages)
