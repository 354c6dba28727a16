"""PostgreSQL's plan for every statement of the pages and the writer."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import psycopg
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from web.accounts import sessions, users
from web.chat import conversations, drafts, history, insert, lists, quotes, reading, stored
from web.chat.insert import Sent
from web.data import postgres, questions
from web.data.models import User
from web.data.questions import Question, Reader
from web.settings import Settings

NOW = datetime.now(UTC)
LARGE = ("users", "sessions", "conversations", "participants", "messages", "notifications")
IN_A_SESSION: dict[str, Callable[[AsyncSession], Awaitable[object]]] = {
    "all users": lambda postgres: users.listed(postgres, "", "person2"),
    "search by two letters": lambda postgres: users.listed(postgres, "pe", ""),
    "search, few found": lambda postgres: users.listed(postgres, "erson500", ""),
    "search, everybody found": lambda postgres: users.listed(postgres, "erson", ""),
    "a user by name": lambda postgres: postgres.execute(select(User.id).where(users.is_named("Person500"))),
}
"""Statements that run in a SQLAlchemy session."""


async def explained(settings: Settings) -> dict[str, str]:
    """Plans with their true row counts, by title. What the statements write is rolled back."""
    found: dict[str, str] = {}
    async with postgres.connect(settings) as engine, engine.connect() as connection:
        session = AsyncSession(bind=connection, expire_on_commit=False)
        reader = Reader(engine)
        async with reader.running():
            me, here = await _cast(session, reader)
        for title, fetch in IN_A_SESSION.items():
            for number, (statement, parameters) in enumerate(await _statements(connection, session, fetch)):
                found[f"{title}, {number + 1}" if number else title] = await _explain(connection, statement, parameters)
        for title, (statement, parameters) in _reads(me, here).items():
            found[title] = await _explain(connection, statement, parameters, questions.PLAN)
        for title, (statement, parameters) in _writes(me, here).items():
            found[title] = await _explain(connection, statement, parameters, insert.PLAN)
    return found


def scans(plan: str) -> bool:
    """Whether the plan scans a whole table that grows, or discards over a thousand rows that it read."""
    discarded = map(int, re.findall(r"Rows Removed by Filter: (\d+)", plan))
    return any(re.search(rf"Seq Scan on {table}\b", plan) for table in LARGE) or max(discarded, default=0) > 1000


def _reads(me: int, conversation_id: int) -> dict[str, tuple[str, Any]]:
    """The questions of web/data/questions.py."""
    session = {"session_id": sha256(b"person0").digest()}
    here = {"conversation_id": conversation_id}
    fetched: dict[str, tuple[Question[Any], dict[str, Any]]] = {
        "latest messages": (history.LATEST, here),
        "older messages": (history.BEFORE, {"me": me, **here, "seq": 500}),
        "what changed": (history.AFTER, {"me": me, **here, "version": 500, "first_seq": 1}),
        "who is signed in": (sessions.CURRENT, session),
        "who is signed in, and their chats": (lists.OF_SESSION, session),
        "chat list": (lists.NEWEST, {"me": me}),
        "chat list, further on": (lists.FURTHER, {"me": me, "active_at": NOW, **here}),
        "chats of lists": (lists.ENTRIES, {"conversations": [conversation_id], "users": [me]}),
        "the chat with somebody": (conversations.WITH, {"me": me, "name": "person1"}),
        "newer messages": (history.SINCE, {"me": me, **here, "seq": 500}),
        "how much is unread": (lists.UNREAD, {"me": me}),
        "mark as read": (reading.READ, {"me": me, **here, "version": 500}),
        "mark as read, a part": (reading.READ_SEQ, {"me": me, **here, "seq": 500}),
        "save a draft": (drafts.SAVE, {"me": me, **here, "body": "text", "base": ""}),
        "what is answered": (quotes.QUOTABLE, {**here, "seq": 500}),
        "messages by their places": (stored.AT, {"conversations": [conversation_id], "seqs": [500]}),
        "how far it was read": (reading.STATE, {"me": me, **here}),
    }
    return {title: (question.text, question.parameters | given) for title, (question, given) in fetched.items()}


def _writes(me: int, conversation_id: int) -> dict[str, tuple[str, Any]]:
    sent: Sent = {
        "conversation_id": conversation_id,
        "author_id": me,
        "nonce": "a new nonce",
        "body": "text",
        "held": False,
        "reply_to": None,
    }
    return {"writer: write": (insert.WRITE, insert.parameters([sent]))}


async def _cast(session: AsyncSession, reader: Reader) -> tuple[int, int]:
    """The ids of a user and of one of their conversations."""
    me = (await session.scalars(select(User.id).where(users.is_named("person0")))).one()
    [found] = await reader.fetch(conversations.WITH, me=me, name="person1")
    assert found.conversation_id is not None
    return me, found.conversation_id


async def _statements(
    connection: AsyncConnection, session: AsyncSession, fetch: Callable[[AsyncSession], Awaitable[object]]
) -> list[tuple[str, Any]]:
    """The statements that `fetch` runs, with their parameters."""
    executed: list[tuple[str, Any]] = []

    def listen(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        executed.append((statement, parameters))

    event.listen(connection.sync_connection, "before_cursor_execute", listen)
    try:
        await fetch(session)
    finally:
        event.remove(connection.sync_connection, "before_cursor_execute", listen)
        await session.rollback()
    return executed


async def _explain(connection: AsyncConnection, statement: str, parameters: Any, plan: str = "") -> str:
    """The plan of a statement, made under the settings in `plan`."""
    raw = await connection.get_raw_connection()
    postgres: psycopg.AsyncConnection[Any] = raw.driver_connection  # type: ignore[assignment]
    try:
        await postgres.execute(plan.encode())
        explain = b"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF) " + statement.encode()
        rows = await (await postgres.execute(explain, parameters)).fetchall()
        return "\n".join(row[0] for row in rows)
    finally:
        await postgres.rollback()
