"""Questions that every page asks of PostgreSQL: put into words once, each a transaction of its own.

With a session it costs several times what the answer does to build the statement, to take a connection and see whether
it lives, to begin and to end a transaction. What takes several statements, or is asked rarely, takes a session.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.psycopg import dialect
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.dml import ReturningUpdate

from web.data.postgres import UNAVAILABLE, Line

CONNECTIONS = 4
"""Enough to keep PostgreSQL busy: an answer takes it less time than the process needs for the page."""

# Each question looks up a few rows by an index, in its order. What is planned while the tables are empty, and then
# kept, would read them from end to end when they are full; what is planned for the few chats that most people have
# would read all of somebody's thousands.
PLAN = """
    SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off
"""


class Question:
    """A statement with named parameters (`bindparam`), which may be executed twice where an answer was lost."""

    def __init__(self, statement: Select[*tuple[Any, ...]] | ReturningUpdate[*tuple[Any, ...]]) -> None:
        compiled = statement.compile(dialect=dialect())  # type: ignore[no-untyped-call]
        self.text = str(compiled)
        self.parameters = dict(compiled.params)


class Reader:
    """One per process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._idle: list[Line] = []
        self._turns = asyncio.Semaphore(CONNECTIONS)

    async def ask(self, question: Question, **parameters: object) -> list[tuple[Any, ...]]:
        """The rows of the answer. Raises what PostgreSQL raises."""
        given = {**question.parameters, **parameters}
        async with self._turns:
            while self._idle:
                line = self._idle.pop()
                try:
                    return await self._ask(line, question.text, given)
                except UNAVAILABLE:
                    if not line.postgres.closed:
                        raise
                    # PostgreSQL was restarted since the last question.
            return await self._ask(await Line.open(self._engine, PLAN), question.text, given)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            while self._idle:
                await self._idle.pop().kept.close()

    async def _ask(self, line: Line, text: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        try:
            rows = await (await line.postgres.execute(text, parameters)).fetchall()
        except BaseException:
            await line.drop()
            raise
        self._idle.append(line)
        return rows
