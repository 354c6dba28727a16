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

from web import background, fragments, metrics
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
    SELECT clock_timestamp(), conversation_id, author_id, nonce, seq, version, body, created_at
    FROM (VALUES (1)) AS always LEFT JOIN (
        unnest(%s::bigint[], %s::bigint[], %s::text[]) AS sent (conversation_id, author_id, nonce)
        JOIN messages USING (conversation_id, author_id, nonce)
    ) ON true
"""
# One statement, since each has its price. Whoever writes has read what stands above. The conflict of a notification
# locks the row that waits, though it may change nothing: else its actor could read the messages just before these are
# committed, and nobody would tell of them. It comes due at once for somebody who logged out meanwhile; for somebody
# who wants to be told when away, the actor found out how long that takes.
WRITE = """
    WITH new AS MATERIALIZED (
        SELECT * FROM unnest(
            %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[]
        ) AS new (conversation_id, seq, version, author_id, recipient_id, nonce, body)
    ), inserted AS (
        INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at)
        SELECT conversation_id, seq, version, author_id, nonce, body, %s FROM new
    ), raised AS (
        UPDATE conversations SET version = newest.version, last_seq = newest.seq
        FROM (SELECT conversation_id, max(version) AS version, max(seq) AS seq FROM new GROUP BY 1) AS newest
        WHERE conversations.id = newest.conversation_id
    ), reading AS (
        UPDATE participants SET active_at = %s, read_seq = greatest(read_seq, own.seq)
        FROM (
            SELECT conversation_id, user_id, max(seq) AS seq FROM (
                SELECT conversation_id, author_id AS user_id, seq FROM new
                UNION ALL SELECT conversation_id, recipient_id, 0 FROM new
            ) AS shown GROUP BY 1, 2
        ) AS own
        WHERE participants.conversation_id = own.conversation_id AND participants.user_id = own.user_id
        RETURNING participants.conversation_id, participants.user_id, read_seq
    ), telling AS (
        INSERT INTO notifications (user_id, conversation_id, first_seq, due_at)
        SELECT users.id, conversation_id, min(seq), now()
        FROM new JOIN users ON users.id = recipient_id
        WHERE telegram_chat_id IS NOT NULL AND (token = 0 OR notify_when_away)
        GROUP BY users.id, conversation_id
        ON CONFLICT (user_id, conversation_id) WHERE state = 'pending'
        DO UPDATE SET due_at = least(notifications.due_at, excluded.due_at)
        WHERE notifications.attempts = 0 AND (SELECT token FROM users WHERE users.id = notifications.user_id) = 0
        RETURNING id, due_at
    )
    SELECT conversation_id, user_id, read_seq, NULL FROM reading
    UNION ALL SELECT NULL, NULL, NULL, id FROM telling WHERE due_at <= now()
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

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The new messages as WRITE takes them."""
        return [
            (p.pair.id, p.seq, p.version, p.author_id, p.pair.other(p.author_id).id, p.nonce, p.body) for p in self.new
        ]


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
        try:
            async with background.loops(self._write_forever):
                yield
        finally:
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
        heads = {row[0]: (row[1], row[2]) for row in await locking.fetchall()}
        rows = await knowing.fetchall()
    return Found(heads, {row[1:4]: row[4:] for row in rows}, now=rows[0][0])


async def _write(postgres: AsyncConnection[Any], batch: Sequence[Draft], found: Found) -> Written:
    """Insert what is new, and commit."""
    written = _allot(batch, found)
    if written.new:
        async with postgres.pipeline():
            writing = await postgres.execute(WRITE, [*_columns(written.rows), found.now, found.now])
            await postgres.commit()
            for conversation_id, user_id, read_seq, notification_id in await writing.fetchall():
                if notification_id is None:
                    written.read[conversation_id, user_id] = read_seq
                else:
                    written.due_notifications.append(notification_id)
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


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
