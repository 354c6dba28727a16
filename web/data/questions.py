"""Questions that most pages ask of PostgreSQL: compiled once, each a transaction of its own, with typed rows.

Through a SQLAlchemy session, building the statement, checking a connection out of the pool and opening a transaction
cost several times what the answer does. Use a session for anything that takes several statements or is asked rarely.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from inspect import Signature, signature
from typing import Any, Generic, TypeVar, TypeVarTuple

from psycopg.rows import args_row
from sqlalchemy import ARRAY, BigInteger, Select, TableValuedAlias, bindparam, column, func
from sqlalchemy.dialects.postgresql.psycopg import dialect
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.dml import ReturningUpdate

from web.data.postgres import DATABASE_AWAY, KeptConnection

First = TypeVar("First")
Second = TypeVar("Second")
Row = TypeVar("Row")
Columns = TypeVarTuple("Columns")

CONNECTIONS = 4
"""Enough to keep PostgreSQL busy: it answers faster than the process renders."""

# Each question looks up a few rows by an index, in the index's order. A plan made while the tables are empty, and then
# kept, would scan them whole when they are full; one made for the few chats of most people would read all of somebody's
# thousands.
PLAN = """
    SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off
"""


class Question(Generic[Row]):
    """A statement with named parameters (`bindparam`) that is safe to execute twice, in case the answer got lost."""

    def __init__(self, row: Callable[[*Columns], Row], statement: Select[*Columns] | ReturningUpdate[*Columns]) -> None:
        """`row` makes a row of the columns; raises TypeError if its parameters are not named like them, in order."""
        columns, parameters = statement.exported_columns.keys(), list(signature(row).parameters)
        if columns != parameters:
            raise TypeError(f"The statement has the columns {columns}, but its row takes {parameters}.")
        compiled = statement.compile(dialect=dialect())  # type: ignore[no-untyped-call]
        self.text = str(compiled)
        self.parameters = dict(compiled.params)
        self.row_factory = args_row(row)


def outer_join(
    first: Callable[..., First], second: Callable[..., Second]
) -> Callable[..., tuple[First, Second | None]]:
    """Makes rows of an outer join: the columns of `first`, then those of `second`, None where nothing was joined."""
    width = len(signature(first).parameters)

    def row(*columns: Any) -> tuple[First, Second | None]:
        joined = columns[width:]
        return first(*columns[:width]), None if joined[0] is None else second(*joined)

    parameters = [*signature(first).parameters.values(), *signature(second).parameters.values()]
    row.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what Question checks
    return row


def pairs(**parameters: str) -> TableValuedAlias:
    """A table to join, whose columns take their values from parameters that hold a list of bigints each."""
    lists = [bindparam(parameter, type_=ARRAY(BigInteger)) for parameter in parameters.values()]
    columns = [column(name, BigInteger) for name in parameters]
    return func.unnest(*lists).table_valued(*columns, name="wanted").render_derived()


class Reader:
    """One per process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._idle: list[KeptConnection] = []
        self._turns = asyncio.Semaphore(CONNECTIONS)

    async def fetch(self, question: Question[Row], **parameters: object) -> list[Row]:
        """All rows of the answer. Raises what PostgreSQL raises, and DATABASE_AWAY's errors."""
        given = {**question.parameters, **parameters}
        async with self._turns:
            while self._idle:
                connection = self._idle.pop()
                try:
                    return await self._execute(connection, question, given)
                except DATABASE_AWAY:
                    if not connection.postgres.closed:
                        raise
                    # PostgreSQL was restarted since the last question.
            return await self._execute(await KeptConnection.open(self._engine, PLAN), question, given)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            while self._idle:
                await self._idle.pop().pooled.close()

    async def _execute(
        self, connection: KeptConnection, question: Question[Row], parameters: dict[str, Any]
    ) -> list[Row]:
        try:
            cursor = connection.postgres.cursor(row_factory=question.row_factory)
            rows = await (await cursor.execute(question.text, parameters)).fetchall()
        except BaseException:
            await connection.drop()
            raise
        self._idle.append(connection)
        return rows
