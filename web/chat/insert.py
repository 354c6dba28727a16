"""Batches of messages: the statement that writes one, and the connection that it is written on.

In it the conversations are locked in the order of their ids, so that two processes never wait for each other in a
circle, and `seq` and `version` are allotted under that lock, so that the order of commits is the order of `seq`.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, TypedDict

import orjson
from psycopg.errors import UniqueViolation
from sqlalchemy.ext.asyncio import AsyncEngine

from web.data.postgres import UNAVAILABLE, Line

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
        SELECT * FROM ROWS FROM (
            json_to_recordset(%s)
            AS (conversation_id bigint, author_id bigint, recipient_id bigint, nonce text, body text)
        ) WITH ORDINALITY AS sent (conversation_id, author_id, recipient_id, nonce, body, place)
        LIMIT %s
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
    UNION ALL SELECT 'due', id, NULL, NULL, NULL, NULL FROM telling WHERE due_at <= now()
"""
# Planned once, for batches and tables of any size: planning takes as long as writing, and what is planned while the
# tables are empty would read them from end to end when they are full. A limit that is not known yet makes the planner
# count on few messages, and so look up each row instead of reading a whole index.
PLAN = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off"


class Sent(TypedDict):
    """A message as it is given to WRITE."""

    conversation_id: int
    author_id: int
    recipient_id: int
    nonce: str
    body: str


def parameters(sent: Sequence[Sent]) -> tuple[str, int]:
    """WRITE's parameters. One value of JSON, since the driver takes several times as long for arrays."""
    return orjson.dumps(sent).decode(), len(sent)


class Batches:
    """One per process: writes one at a time, on a connection that it keeps."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._line: Line | None = None

    async def write(self, sent: Sequence[Sent]) -> list[tuple[Any, ...]]:
        """One transaction, in one round trip.

        No message may be in it twice. Raises what PostgreSQL raises, and TimeoutError.
        """
        kept = self._line
        try:
            async with asyncio.timeout(TIMEOUT):
                try:
                    return await self._ask(sent)
                except UniqueViolation:
                    # Another process committed one of them while this one waited for the lock: now it is known.
                    return await self._ask(sent)
                except UNAVAILABLE:
                    if kept is None or not kept.postgres.closed:
                        raise
                    # PostgreSQL was restarted since the last batch. Should this one have been committed before the
                    # connection broke, its nonces are known now.
                    await self.disconnect()
                    return await self._ask(sent)
        except BaseException:
            await self.disconnect()  # whatever state the connection was left in
            raise

    async def disconnect(self) -> None:
        """Close the connection; the next batch opens another one."""
        line, self._line = self._line, None
        if line is not None:
            await line.drop()

    async def _ask(self, sent: Sequence[Sent]) -> list[tuple[Any, ...]]:
        if self._line is None:
            self._line = await Line.open(self._engine, PLAN)
        return await (await self._line.postgres.execute(WRITE, parameters(sent))).fetchall()
