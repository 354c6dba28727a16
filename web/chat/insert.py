"""The statement that writes a batch of messages, and the connection that it runs on."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypedDict

import orjson
from psycopg.errors import UniqueViolation
from psycopg.rows import args_row
from sqlalchemy.ext.asyncio import AsyncEngine

from web.data.postgres import DATABASE_AWAY, KeptConnection
from web.notifications.rules import WANTS_NOTIFICATIONS

TIMEOUT = 5
"""Seconds for one transaction."""

# One statement, since each has its price, and a transaction by itself. It sees what others committed while it waited
# for its locks: a locked row is read as of then, and a message that `known` missed cannot be inserted a second time.
WRITE = f"""
    WITH sent AS MATERIALIZED (
        SELECT * FROM ROWS FROM (
            json_to_recordset(%s)
                AS (conversation_id bigint, author_id bigint, nonce text, body text, held boolean, reply_to bigint)
        ) WITH ORDINALITY AS sent (conversation_id, author_id, nonce, body, held, reply_to, place)
        -- The planner cannot know this limit, so it expects few messages and looks up rows by index.
        LIMIT %s
    ), locked AS MATERIALIZED (
        -- In the order of their ids, so that two processes never wait for each other in a circle. `seq` and `version`
        -- are allotted under these locks, so the order of commits is the order of `seq`.
        SELECT id, last_seq, version FROM conversations WHERE id IN (SELECT conversation_id FROM sent)
        ORDER BY id FOR NO KEY UPDATE
    ), known AS MATERIALIZED (
        -- Sent before, with the same nonce: answered with what it became.
        SELECT place, seq, version, created_at, messages.held
        FROM sent JOIN messages USING (conversation_id, author_id, nonce)
    ), new AS MATERIALIZED (
        SELECT sent.*, last_seq + row_number() OVER later AS seq, version + row_number() OVER later AS version,
            (SELECT clock_timestamp()) AS created_at
        FROM sent JOIN locked ON locked.id = conversation_id
        WHERE place NOT IN (SELECT place FROM known)
        WINDOW later AS (PARTITION BY conversation_id ORDER BY place)
    ), inserted AS (
        INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at, held, reply_to)
        SELECT conversation_id, seq, version, author_id, nonce, body, created_at, held, reply_to FROM new
    ), raised AS (
        UPDATE conversations SET version = newest.version, last_seq = newest.seq
        FROM (SELECT conversation_id, max(version) AS version, max(seq) AS seq FROM new GROUP BY 1) AS newest
        WHERE conversations.id = newest.conversation_id
    ), audience AS MATERIALIZED (
        -- What each participant gets, which is not what is held from them: that counts as read, like their own.
        SELECT conversation_id, user_id,
            max(created_at) FILTER (WHERE author_id = user_id OR NOT held) AS created_at,
            min(seq) FILTER (WHERE author_id <> user_id AND NOT held) AS first_seq,
            coalesce(max(seq) FILTER (WHERE author_id = user_id OR held), 0) AS read_seq,
            max(seq) FILTER (WHERE author_id = user_id OR NOT held) AS shown_seq,
            min(seq) - 1 AS before_seq, max(seq) AS last_seq
        FROM new JOIN participants USING (conversation_id) GROUP BY 1, 2
    ), reading AS (
        -- The chat moves up in the list. Sending also marks earlier messages as read by their sender.
        UPDATE participants SET
            active_at = coalesce(audience.created_at, active_at),
            read_seq = greatest(participants.read_seq, audience.read_seq),
            shown_seq = CASE WHEN audience.shown_seq = last_seq THEN NULL
                ELSE coalesce(audience.shown_seq, participants.shown_seq, before_seq) END
        FROM audience
        WHERE participants.conversation_id = audience.conversation_id AND participants.user_id = audience.user_id
    ), notified AS (
        INSERT INTO notifications (user_id, conversation_id, first_seq, due_at)
        SELECT user_id, conversation_id, first_seq, now() FROM audience JOIN users ON users.id = user_id
        WHERE first_seq IS NOT NULL AND {WANTS_NOTIFICATIONS}
        -- A row that waits already covers these messages too. Updating it, even to what it is, locks it: otherwise the
        -- worker could claim it and read the messages just before these are committed, and nobody would send them. For
        -- a user who has logged out meanwhile it is due at once; for one who is away the worker knows how long to wait.
        ON CONFLICT (user_id, conversation_id) WHERE state = 'pending'
        DO UPDATE SET due_at = least(notifications.due_at, excluded.due_at)
        WHERE notifications.attempts = 0 AND (SELECT token FROM users WHERE users.id = notifications.user_id) = 0
        RETURNING id, due_at
    )
    SELECT 'new', place, seq, version, created_at, held FROM new
    UNION ALL SELECT CASE WHEN created_at < clock_timestamp() - interval '1 second' THEN 'old' ELSE 'known' END,
        place, seq, version, created_at, held FROM known
    UNION ALL SELECT 'due', id, NULL, NULL, NULL, NULL FROM notified WHERE due_at <= now()
"""  # noqa: S608
# Planned once, for batches and tables of any size: planning takes as long as writing, and a plan made while the tables
# are empty would scan them whole when they are full.
PLAN = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off"


class Sent(TypedDict):
    """A message as WRITE takes it."""

    conversation_id: int
    author_id: int
    nonce: str
    body: str
    held: bool
    reply_to: int | None


class Kind(StrEnum):
    """Whether a sent message is new, or its nonce was known."""

    NEW = "new"
    KNOWN = "known"
    OLD = "old"
    """Known for more than a second. The process that wrote it should have announced it, but may have died."""


class Written(NamedTuple):
    """What became of the message that was sent as number `place`, counted from 1."""

    kind: str
    place: int
    seq: int
    version: int
    created_at: datetime
    held: bool


class Due(NamedTuple):
    """A notification that is due."""

    id: int


def _outcome(kind: str, number: int, seq: int, version: int, created_at: datetime, held: bool) -> Written | Due:
    return Due(number) if kind == "due" else Written(kind, number, seq, version, created_at, held)


def parameters(sent: Sequence[Sent]) -> tuple[str, int]:
    """WRITE's parameters. One value of JSON, since the driver takes several times as long for arrays."""
    return orjson.dumps(sent).decode(), len(sent)


class Inserter:
    """One per process: writes one batch at a time, on a kept connection."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: KeptConnection | None = None

    async def write(self, sent: Sequence[Sent]) -> list[Written | Due]:
        """One transaction, in one round trip. No message may be in it twice.

        Raises what PostgreSQL raises, and DATABASE_AWAY's errors.
        """
        kept = self._connection
        try:
            async with asyncio.timeout(TIMEOUT):
                try:
                    return await self._execute(sent)
                except UniqueViolation:
                    # Another process committed one of them while this one waited for the lock: now it is known.
                    return await self._execute(sent)
                except DATABASE_AWAY:
                    if kept is None or not kept.postgres.closed:
                        raise
                    # PostgreSQL was restarted since the last batch. If this one was committed before the connection
                    # broke, its nonces are known now.
                    await self.disconnect()
                    return await self._execute(sent)
        except BaseException:
            await self.disconnect()  # whatever state the connection is in
            raise

    async def disconnect(self) -> None:
        """Close the connection; the next batch opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.drop()

    async def _execute(self, sent: Sequence[Sent]) -> list[Written | Due]:
        if self._connection is None:
            self._connection = await KeptConnection.open(self._engine, PLAN)
        cursor = self._connection.postgres.cursor(row_factory=args_row(_outcome))
        return await (await cursor.execute(WRITE, parameters(sent))).fetchall()
