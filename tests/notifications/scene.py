"""The outbox without a site or a worker: rows in PostgreSQL, and the functions that work on them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any, TypeVar

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests import site as sites
from web import settings
from web.chat.insert import Due, Inserter, Sent
from web.data import postgres as database
from web.live import presence
from web.live.presence import Presence
from web.notifications import outbox
from web.notifications.outbox import Claim

T = TypeVar("T")


@dataclass
class Scene:
    """Alice and Bob in a conversation; Bob is linked and logged out, so he is notified of what she writes."""

    postgres: psycopg.Connection
    runner: asyncio.Runner
    engine: AsyncEngine
    inserter: Inserter
    nonces: Iterator[int] = field(default_factory=count)
    chat_ids: Iterator[int] = field(default_factory=lambda: count(9001))

    def __post_init__(self) -> None:
        self.alice = self.user("alice", token=1)
        self.bob = self.user("bob")
        self.chat_id = self.value("SELECT telegram_chat_id FROM users WHERE id = %s", self.bob)
        self.conversation = self.begin(self.alice, self.bob)

    def value(self, query: str, *parameters: object) -> Any:
        """The only column of the only row; a tuple of several columns."""
        (row,) = self.postgres.execute(query.encode(), parameters).fetchall()
        return row[0] if len(row) == 1 else row

    def now(self) -> datetime:
        """PostgreSQL's clock."""
        return self.value("SELECT now()")  # type: ignore[no-any-return]

    def is_after(self, moment: datetime, seconds: int, since: datetime) -> bool:
        """Whether it is exactly so long after something that happened between `since` and now."""
        return since <= moment - timedelta(seconds=seconds) <= self.now()

    def user(self, username: str, **columns: object) -> int:
        """Somebody who is linked and logged out, unless `columns` say otherwise. Returns their id."""
        given = {"username": username, "password_hash": "", "telegram_chat_id": next(self.chat_ids), **columns}
        names, places = ", ".join(given), ", ".join(["%s"] * len(given))
        return int(self.value(f"INSERT INTO users ({names}) VALUES ({places}) RETURNING id", *given.values()))

    def change(self, user_id: int, **columns: object) -> None:
        changes = ", ".join(f"{name} = %s" for name in columns)
        self.postgres.execute(f"UPDATE users SET {changes} WHERE id = %s".encode(), [*columns.values(), user_id])

    def begin(self, *user_ids: int) -> int:
        """A conversation of these users. Returns its id."""
        low, high = sorted(user_ids)[-2:]
        begun = "INSERT INTO conversations (low_user_id, high_user_id) VALUES (%s, %s) RETURNING id"
        conversation_id = int(self.value(begun, low, high))
        people = "INSERT INTO participants (conversation_id, user_id) SELECT %s, unnest(%s::bigint[])"
        self.postgres.execute(people.encode(), [conversation_id, list(user_ids)])
        return conversation_id

    def write(self, body: str, author: int | None = None, conversation: int | None = None) -> list[int]:
        """Write a message, by Alice to Bob unless said otherwise. Returns the ids of the notifications now due."""

        message = Sent(
            conversation_id=conversation or self.conversation,
            author_id=author or self.alice,
            nonce=str(next(self.nonces)),
            body=body,
            held=False,
            reply_to=None,
        )

        outcomes = self.runner.run(self.inserter.write([message]))
        return [outcome.id for outcome in outcomes if isinstance(outcome, Due)]

    def run(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Run it in a transaction of its own."""
        return self.runner.run(self.transaction(work))

    async def transaction(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        async with database.database(self.engine).begin() as db:
            return await work(db)

    async def blocked(self, task: asyncio.Task[T]) -> None:
        """Wait until the task waits for a lock of PostgreSQL."""
        async with asyncio.timeout(10):
            while not self.value("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
                assert not task.done()
                await asyncio.sleep(0.01)

    def claim(self, notification_id: int, presence: Presence = presence.AWAY) -> Claim | None:
        return self.run(lambda db: outbox.claim(db, notification_id, presence))

    def claimed(self, notification_id: int) -> Claim:
        """Its claim, of which nothing is in the way."""
        claim = self.claim(notification_id)
        assert claim is not None, self.row(notification_id, "state, problem")
        return claim

    def sent(self, notification_id: int, card_id: int) -> Claim:
        """Claim it and mark it sent, on this card."""
        claim = self.claimed(notification_id)
        self.run(lambda db: outbox.mark_sent(db, claim, card_id))
        return claim

    def row(self, notification_id: int, columns: str = "state") -> Any:
        return self.value(f"SELECT {columns} FROM notifications WHERE id = %s", notification_id)

    def later(self, seconds: float) -> None:
        """Let this time pass for all notifications."""
        self.postgres.execute(
            "UPDATE notifications SET due_at = due_at - passed, card_at = card_at - passed, told_at = told_at - passed"
            " FROM make_interval(secs => %s) AS passed",
            [seconds],
        )


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def apart(environ: dict[str, str]) -> dict[str, str]:
    """The environment with another database: the worker of other tests sweeps the outbox of the usual one."""
    usual = environ["DATABASE_URL"]
    with psycopg.connect(usual.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE scene")
    chosen = {**environ, "DATABASE_URL": usual.replace("/postgres?", "/scene?")}
    sites.migrate(chosen)
    return chosen


@pytest.fixture(scope="module")
def engine(apart: dict[str, str], runner: asyncio.Runner) -> Iterator[AsyncEngine]:
    stack = AsyncExitStack()
    yield runner.run(stack.enter_async_context(database.connect(settings.read(apart))))
    runner.run(stack.aclose())


@pytest.fixture(scope="module")
def inserter(runner: asyncio.Runner, engine: AsyncEngine) -> Iterator[Inserter]:
    inserter = Inserter(engine)
    yield inserter
    runner.run(inserter.disconnect())


@pytest.fixture
def scene(
    clean: None, apart: dict[str, str], runner: asyncio.Runner, engine: AsyncEngine, inserter: Inserter
) -> Iterator[Scene]:
    with psycopg.connect(apart["DATABASE_URL"].replace("+psycopg", ""), autocommit=True) as postgres:
        postgres.execute(f"TRUNCATE {sites.TABLES}".encode())
        yield Scene(postgres, runner, engine, inserter)
