"""The way of a message into PostgreSQL: everything that arrived while one transaction was under way is the next one.

There is no timer: a lone message is written at once, and under load one commit carries many. In the transaction the
conversations are locked in the order of their ids, so that two processes never wait for each other in a circle, and
`seq` and `version` are allotted under that lock, so that the order of commits is the order of `seq`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from sqlalchemy.ext.asyncio import AsyncConnection as EngineConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from web import fragments, metrics
from web.conversations import Pair
from web.db import UNAVAILABLE
from web.messages import Posted, Refused

log = logging.getLogger(__name__)

BATCH = 200
"""Messages in one transaction at the most."""
QUEUE = 5000
"""Messages that wait for PostgreSQL at the most; the next one is refused in words."""
TIMEOUT = 5
"""Seconds for one transaction."""

LOCK = """
    SELECT id, version, last_seq FROM conversations WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE
"""
# A statement of its own after the locks: it sees everything that was committed before they were granted.
KNOWN = """
    SELECT conversation_id, author_id, nonce, seq, version, body, created_at
    FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) AS sent (conversation_id, author_id, nonce)
    JOIN messages USING (conversation_id, author_id, nonce)
"""
INSERT = """
    INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at)
    SELECT *, %s FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[])
"""
RAISE = """
    UPDATE conversations SET version = new.version, last_seq = new.seq
    FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS new (id, version, seq) WHERE conversations.id = new.id
"""
# Whoever writes has read what stands above.
READ = """
    UPDATE participants SET active_at = %s, read_seq = greatest(read_seq, own.seq)
    FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS own (conversation_id, user_id, seq)
    WHERE participants.conversation_id = own.conversation_id AND participants.user_id = own.user_id
    RETURNING participants.conversation_id, participants.user_id, read_seq
"""
# The conflict locks the row that waits, though it may change nothing: else its actor could read the messages just
# before this one is committed, and nobody would tell of it.
NOTIFY = """
    INSERT INTO notifications (user_id, conversation_id, first_seq, due_at)
    SELECT id, conversation_id, seq, CASE token WHEN 0 THEN now() ELSE now() + interval '2 minutes' END
    FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS to_tell (user_id, conversation_id, seq)
    JOIN users ON users.id = user_id
    WHERE telegram_chat_id IS NOT NULL AND (token = 0 OR notify_when_away)
    ON CONFLICT (user_id, conversation_id) WHERE state = 'pending'
    DO UPDATE SET due_at = least(notifications.due_at, excluded.due_at) WHERE notifications.attempts = 0
    RETURNING id, due_at <= now() AS due
"""


@dataclass(slots=True)
class Draft:
    """A message on its way into PostgreSQL."""

    pair: Pair
    author_id: int
    body: str
    nonce: str
    posted: asyncio.Future[Posted] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class Written:
    """What a transaction did: every draft's message, the new ones among them, and who is to be told."""

    posted: list[Posted] = field(default_factory=list)
    new: list[Posted] = field(default_factory=list)
    read: dict[tuple[int, int], int] = field(default_factory=dict)
    due_notifications: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Found:
    """What stands in PostgreSQL once the conversations are locked."""

    heads: dict[int, tuple[int, int]]
    """By conversation, its version and its last `seq`."""
    known: dict[tuple[int, int, str], tuple[Any, ...]]
    """By conversation, author and nonce, what a draft's message already is."""
    now: datetime


class Writer:
    """One per process. `announce` is called after each commit, before the authors have their answer."""

    def __init__(self, engine: AsyncEngine, announce: Callable[[Written], None]) -> None:
        self._engine = engine
        self._announce = announce
        self._drafts: deque[Draft] = deque()
        self._more = asyncio.Event()
        self._connection: EngineConnection | None = None

    async def write(self, pair: Pair, author_id: int, body: str, nonce: str) -> Posted:
        """The message once it is committed; a nonce that was there before gives the message it gave then.

        Raises Refused.
        """
        if len(self._drafts) >= QUEUE:
            raise Refused("Too many messages are waiting right now.", retry=True, cause="queue")
        draft = Draft(pair, author_id, body, nonce)
        self._drafts.append(draft)
        self._more.set()
        return await draft.posted

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        loop = asyncio.create_task(self._write_forever())
        try:
            yield
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
            await self._disconnect()

    async def _write_forever(self) -> None:
        while True:
            await self._more.wait()
            batch = [self._drafts.popleft() for _ in range(min(BATCH, len(self._drafts)))]
            if not self._drafts:
                self._more.clear()
            await self._settle(batch)

    async def _settle(self, batch: Sequence[Draft]) -> None:
        """Write the batch and answer its authors; one bad message takes no other with it."""
        try:
            written = await self._commit(batch)
        except Exception as error:
            if isinstance(error, UNAVAILABLE):
                refused = Refused("Knock cannot keep messages at the moment.", retry=True, cause="database")
            elif len(batch) > 1:
                for draft in batch:
                    await self._settle([draft])
                return
            else:
                log.exception("A message could not be written")
                refused = Refused("This message could not be kept.", cause="error")
            for draft in batch:
                if not draft.posted.done():
                    draft.posted.set_exception(refused)
            return
        metrics.BATCH.observe(len(batch))
        metrics.MESSAGES.inc(len(written.new))
        self._announce(written)
        for draft, posted in zip(batch, written.posted, strict=True):
            if not draft.posted.done():  # the page may have gone, and its view been cancelled
                draft.posted.set_result(posted)

    async def _commit(self, batch: Sequence[Draft]) -> Written:
        """One transaction, in two round trips."""
        is_kept = self._connection is not None
        try:
            async with asyncio.timeout(TIMEOUT):
                postgres = await self._connect()
                try:
                    found = await _lock(postgres, batch)
                except UNAVAILABLE:
                    if not (is_kept and postgres.closed):
                        raise
                    # PostgreSQL was restarted since the last batch, and nothing of this one is written yet.
                    await self._disconnect()
                    postgres = await self._connect()
                    found = await _lock(postgres, batch)
                return await _write(postgres, batch, found)
        except BaseException:
            await self._disconnect()  # whatever state it was left in
            raise

    async def _connect(self) -> AsyncConnection[Any]:
        """The writer's own connection: taking one from the pool costs more than a small transaction."""
        if self._connection is None:
            self._connection = await self._engine.connect()
        raw = await self._connection.get_raw_connection()
        return raw.driver_connection  # type: ignore[return-value]

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.invalidate()
            await connection.close()


async def _lock(postgres: AsyncConnection[Any], batch: Sequence[Draft]) -> Found:
    """Lock the conversations."""
    ids = sorted({draft.pair.id for draft in batch})
    keys = [(draft.pair.id, draft.author_id, draft.nonce) for draft in batch]
    async with postgres.pipeline():
        locking = await postgres.execute(LOCK, [ids])
        knowing = await postgres.execute(KNOWN, _columns(keys))
        clock = await postgres.execute("SELECT clock_timestamp()")
        heads = {row[0]: (row[1], row[2]) for row in await locking.fetchall()}
        known = {row[:3]: row[3:] for row in await knowing.fetchall()}
        return Found(heads, known, (await clock.fetchall())[0][0])


async def _write(postgres: AsyncConnection[Any], batch: Sequence[Draft], found: Found) -> Written:
    """Insert what is new, and commit."""
    written = _allot(batch, found)
    if written.new:
        async with postgres.pipeline():
            await _persist(postgres, written, found.now)
            await postgres.commit()
    else:
        await postgres.rollback()
    return written


def _allot(batch: Sequence[Draft], found: Found) -> Written:
    """Give each draft its `seq` and `version`, or the message that its nonce already is."""
    written, heads = Written(), found.heads
    posted_by_key: dict[tuple[int, int, str], Posted] = {}
    for draft in batch:
        key = (draft.pair.id, draft.author_id, draft.nonce)
        posted = posted_by_key.get(key)
        if posted is None and key in found.known:
            posted = _posted(draft, *found.known[key], is_new=False)
        elif posted is None:
            version, seq = heads[draft.pair.id]
            heads[draft.pair.id] = (version + 1, seq + 1)
            posted = _posted(draft, seq + 1, version + 1, draft.body, found.now, is_new=True)
            written.new.append(posted)
        posted_by_key[key] = posted
        written.posted.append(posted)
    return written


def _posted(draft: Draft, seq: int, version: int, body: str, created_at: datetime, *, is_new: bool) -> Posted:
    pair, author_id, nonce = draft.pair, draft.author_id, draft.nonce
    html = fragments.message(pair, seq, version, author_id, nonce, body, created_at)
    return Posted(pair, author_id, nonce, body, seq, version, created_at, html, is_new)


async def _persist(postgres: AsyncConnection[Any], written: Written, now: datetime) -> None:
    """Say everything of this transaction; runs in a pipeline, so the answers are fetched at its end."""
    new = written.new
    newest = {posted.pair.id: posted for posted in new}
    first_for: dict[tuple[int, int], int] = {}
    own_seq: dict[tuple[int, int], int] = {}
    for posted in new:
        other = posted.pair.other(posted.author_id)
        first_for.setdefault((other.id, posted.pair.id), posted.seq)
        own_seq[posted.pair.id, posted.author_id] = posted.seq
        own_seq.setdefault((posted.pair.id, other.id), 0)
    rows = [(p.pair.id, p.seq, p.version, p.author_id, p.nonce, p.body) for p in new]
    await postgres.execute(INSERT, [now, *_columns(rows)])
    await postgres.execute(RAISE, _columns([(p.pair.id, p.version, p.seq) for p in newest.values()]))
    reading = await postgres.execute(READ, [now, *_columns([(*key, seq) for key, seq in own_seq.items()])])
    telling = await postgres.execute(NOTIFY, _columns([(*key, seq) for key, seq in first_for.items()]))
    written.read = {(row[0], row[1]): row[2] for row in await reading.fetchall()}
    written.due_notifications = [row[0] for row in await telling.fetchall() if row[1]]


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
