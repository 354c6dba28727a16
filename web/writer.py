"""The way of a message into PostgreSQL: everything that arrived while one transaction was under way is the next one.

There is no timer: a lone message is written at once, and under load one commit carries many. In the transaction the
conversations are locked in the order of their ids, so that two processes never wait for each other in a circle, and
`seq` and `version` are allotted under that lock, so that the order of commits is the order of `seq`.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.errors import UniqueViolation
from sqlalchemy.ext.asyncio import AsyncEngine

from web import background, fragments, messages, metrics
from web.conversations import Pair
from web.db import UNAVAILABLE, Line, Sessions
from web.hub import Hub
from web.messages import Posted, Refused
from web.relay import Relay

log = logging.getLogger(__name__)

BATCH = 200
"""Messages in one transaction at the most."""
QUEUE = 5000
"""Messages that wait for PostgreSQL at the most; the next one is refused in words."""
TURN = 16
"""Conversations that are announced without a pause."""
TIMEOUT = 5
"""Seconds for one transaction."""

# One statement, which is a transaction by itself, since each has its price. It finds out what was committed while it
# waited for its locks: a locked row is read as it is then, and a message that is looked for in vain cannot be inserted
# twice. Whoever writes has read what stands above. The conflict of a notification locks the row that waits, though it
# may change nothing: else its actor could read the messages just before these are committed, and nobody would tell of
# them. It comes due at once for somebody who logged out meanwhile; for somebody who wants to be told when away, the
# actor found out how long that takes.
WRITE = """
    WITH sent AS MATERIALIZED (
        SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[])
        WITH ORDINALITY AS sent (conversation_id, author_id, recipient_id, nonce, body, place)
    ), locked AS MATERIALIZED (
        SELECT id, last_seq, version FROM conversations WHERE id IN (SELECT conversation_id FROM sent)
        ORDER BY id FOR NO KEY UPDATE
    ), known AS MATERIALIZED (
        SELECT place, seq, version, messages.body, created_at
        FROM sent JOIN messages USING (conversation_id, author_id, nonce)
    ), new AS MATERIALIZED (
        SELECT sent.*, last_seq + row_number() OVER later AS seq, version + row_number() OVER later AS version,
            (SELECT clock_timestamp()) AS created_at
        FROM sent JOIN locked ON locked.id = conversation_id
        WHERE place NOT IN (SELECT place FROM known)
        WINDOW later AS (PARTITION BY conversation_id ORDER BY place)
    ), inserted AS (
        INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at)
        SELECT conversation_id, seq, version, author_id, nonce, body, created_at FROM new
    ), raised AS (
        UPDATE conversations SET version = newest.version, last_seq = newest.seq
        FROM (SELECT conversation_id, max(version) AS version, max(seq) AS seq FROM new GROUP BY 1) AS newest
        WHERE conversations.id = newest.conversation_id
    ), reading AS (
        UPDATE participants SET active_at = own.created_at, read_seq = greatest(read_seq, own.seq)
        FROM (
            SELECT conversation_id, user_id, max(seq) AS seq, max(created_at) AS created_at FROM (
                SELECT conversation_id, author_id AS user_id, seq, created_at FROM new
                UNION ALL SELECT conversation_id, recipient_id, 0, created_at FROM new
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
    SELECT 'new', place, seq, version, NULL, created_at FROM new
    UNION ALL SELECT CASE WHEN created_at < clock_timestamp() - interval '1 second' THEN 'again' ELSE 'known' END,
        place, seq, version, body, created_at FROM known
    UNION ALL SELECT 'read', conversation_id, user_id, read_seq, NULL, NULL FROM reading
    UNION ALL SELECT 'due', id, NULL, NULL, NULL, NULL FROM telling WHERE due_at <= now()
"""
# Planned once, for arrays and tables of any size: planning takes as long as writing, and what is planned while the
# tables are empty would read them from end to end when they are full.
PLAN = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off"


@dataclass(slots=True)
class Draft:
    """A message on its way into PostgreSQL."""

    pair: Pair
    author_id: int
    body: str
    nonce: str
    posted: asyncio.Future[Posted]

    @property
    def key(self) -> tuple[int, int, str]:
        """What makes two sends the same message."""
        return self.pair.id, self.author_id, self.nonce


@dataclass(frozen=True, slots=True)
class Written:
    """What a transaction did: the drafts that it was asked for, and the rows with which PostgreSQL answered."""

    batch: Sequence[Draft]
    sent: Sequence[Draft]
    """Those of the batch that PostgreSQL was given: each message once."""
    rows: Sequence[tuple[Any, ...]]


class Writer:
    """One per process. While PostgreSQL has one batch, the one before it is announced, and its authors answered."""

    def __init__(self, engine: AsyncEngine, db: Sessions, hub: Hub, relay: Relay) -> None:
        self._engine = engine
        self._db = db
        self._hub = hub
        self._relay = relay
        self._drafts: deque[Draft] = deque()
        self._more = asyncio.Event()
        self._written: asyncio.Queue[Written] = asyncio.Queue(1)
        self._line: Line | None = None
        self._loop = asyncio.get_running_loop()  # to ask for it costs a system call

    async def write(self, pair: Pair, author_id: int, body: str, nonce: str) -> Posted:
        """The message once it is committed; a nonce that was there before gives the message it gave then.

        Raises Refused.
        """
        if len(self._drafts) >= QUEUE:
            raise Refused("Too many messages are waiting right now.", retry=True, cause="queue")
        draft = Draft(pair, author_id, body, nonce, self._loop.create_future())
        self._drafts.append(draft)
        self._more.set()
        return await draft.posted

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            async with background.loops(self._write_forever, self._answer_forever):
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
        """Write the batch, or refuse it; one bad message takes no other with it."""
        sent = list({draft.key: draft for draft in batch}.values())
        try:
            rows = await self._commit(sent)
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
        await self._written.put(Written(batch, sent, rows))

    async def _answer_forever(self) -> None:
        while True:
            await self._answer(await self._written.get())

    async def _answer(self, written: Written) -> None:
        """Tell everybody whom it concerns, in the order of commits."""
        posted_by_key: dict[tuple[int, int, str], Posted] = {}
        new: dict[int, list[Posted]] = defaultdict(list)
        read: dict[tuple[int, int], int] = {}
        due, again = [], []
        for row in written.rows:
            match row:
                case "new", place, seq, version, _, created_at:
                    draft = written.sent[place - 1]
                    posted = _posted(draft, seq, version, draft.body, created_at, is_new=True)
                    posted_by_key[draft.key] = posted
                    new[draft.pair.id].append(posted)
                case "known" | "again" as kind, place, seq, version, body, created_at:
                    draft = written.sent[place - 1]
                    posted = _posted(draft, seq, version, body, created_at, is_new=False)
                    posted_by_key[draft.key] = posted
                    if kind == "again":
                        again.append(posted)
                case "read", conversation_id, user_id, read_seq, *_:
                    read[conversation_id, user_id] = read_seq
                case "due", notification_id, *_:
                    due.append(notification_id)
        metrics.BATCH.observe(len(written.batch))
        metrics.MESSAGES.inc(sum(map(len, new.values())))
        for number, added in enumerate(new.values()):
            if number % TURN == 0:
                await asyncio.sleep(0)  # the sockets have their turn, and PostgreSQL the next batch
            messages.announce(self._hub, self._relay, sorted(added, key=lambda posted: posted.seq), read)
        self._relay.enqueue(due)
        with suppress(*UNAVAILABLE):  # then its author sends it once more
            for posted in again:
                await messages.announce_again(self._db, self._hub, posted)
        for draft in written.batch:
            if not draft.posted.done():  # the page may have gone, and its view been cancelled
                draft.posted.set_result(posted_by_key[draft.key])

    async def _commit(self, sent: Sequence[Draft]) -> list[tuple[Any, ...]]:
        """One transaction, in one round trip."""
        columns: list[list[Any]] = [
            [draft.pair.id for draft in sent],
            [draft.author_id for draft in sent],
            [draft.pair.other(draft.author_id).id for draft in sent],
            [draft.nonce for draft in sent],
            [draft.body for draft in sent],
        ]
        kept = self._line
        try:
            async with asyncio.timeout(TIMEOUT):
                try:
                    return await self._ask(columns)
                except UniqueViolation:
                    # Another process committed one of them while this one waited for the lock: now it is known.
                    return await self._ask(columns)
                except UNAVAILABLE:
                    if kept is None or not kept.postgres.closed:
                        raise
                    # PostgreSQL was restarted since the last batch. Should this one have been committed before the
                    # connection broke, its nonces are known now.
                    await self._disconnect()
                    return await self._ask(columns)
        except BaseException:
            await self._disconnect()  # whatever state it was left in
            raise

    async def _ask(self, columns: list[list[Any]]) -> list[tuple[Any, ...]]:
        if self._line is None:
            self._line = await Line.open(self._engine)
            await self._line.postgres.execute(PLAN)
        return await (await self._line.postgres.execute(WRITE, columns)).fetchall()

    async def _disconnect(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.drop()


def _posted(draft: Draft, seq: int, version: int, body: str, created_at: datetime, *, is_new: bool) -> Posted:
    pair, author_id, nonce = draft.pair, draft.author_id, draft.nonce
    html = fragments.message(pair, seq, version, author_id, nonce, body, created_at)
    return Posted(pair, author_id, body, seq, version, created_at, html, is_new)
