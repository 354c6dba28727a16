"""The migrations make the tables of the models, and can be undone."""

import re
import threading
from collections.abc import Iterator

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, event, inspect, text

from tests.site import TOP, eventually
from web.data import models
from web.data.postgres import Base

TABLES = {model.__tablename__ for model in Base.__subclasses__()}


@pytest.fixture
def url(environ: dict[str, str], postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty database. The processes of other tests need the tables of theirs."""
    url = environ["DATABASE_URL"].replace("/postgres?", "/migrations?")
    for name, value in {**environ, "DATABASE_URL": url}.items():
        monkeypatch.setenv(name, value)  # where Alembic's environment reads it
    postgres.execute("CREATE DATABASE migrations")
    yield url
    postgres.execute("DROP DATABASE migrations")


def test_up_down_and_up_again(url: str) -> None:
    assert models.User.__tablename__ in TABLES
    config = Config(TOP / "alembic.ini")
    engine = create_engine(url)

    def tables() -> set[str]:
        return set(inspect(engine).get_table_names()) - {"alembic_version"}

    command.upgrade(config, "head")
    assert tables() == TABLES
    command.downgrade(config, "base")
    assert tables() == set()
    command.upgrade(config, "head")
    assert tables() == TABLES
    engine.dispose()


def test_a_migration_that_waits_for_a_reader_stops_nobody_else(url: str, caplog: pytest.LogCaptureFixture) -> None:
    config = Config(TOP / "alembic.ini")
    command.upgrade(config, "0002")
    address = url.replace("+psycopg", "")
    bounded = "-c statement_timeout=10s"
    migration = threading.Thread(target=command.upgrade, args=(config, "head"))
    with psycopg.connect(address) as reader, psycopg.connect(address, autocommit=True, options=bounded) as writer:
        reader.execute("SELECT * FROM users")

        migration.start()
        eventually(lambda: "it is tried again in 5 s" in caplog.text, 30)

        writer.execute("INSERT INTO users (username, password_hash) VALUES ('alice', '')")
        assert migration.is_alive()
        reader.rollback()
        migration.join(60)
        assert writer.execute("SELECT version_num FROM alembic_version").fetchone() != ("0002",)


def test_the_release_before_works_on_the_new_tables(url: str) -> None:
    """Migrations only add, and what they add has a default."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    config = Config(TOP / "alembic.ini")
    command.upgrade(config, "0001")
    event.listen(Engine, "before_cursor_execute", note)
    try:
        command.upgrade(config, "head")
    finally:
        event.remove(Engine, "before_cursor_execute", note)

    changes = [statement for statement in statements if re.match(r"\s*(ALTER|CREATE|DROP|TRUNCATE)", statement)]
    assert len(changes) > 10
    for change in changes:
        assert not re.search(r"DROP|RENAME|ALTER COLUMN|TRUNCATE|UNIQUE INDEX", change), change
        if "ADD COLUMN" in change and "NOT NULL" in change:
            assert re.search("DEFAULT|GENERATED", change), change


def test_the_tables_are_those_of_the_models(environ: dict[str, str]) -> None:
    engine = create_engine(environ["DATABASE_URL"])
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
        functions = connection.execute(text("SELECT proname FROM pg_proc WHERE proname = 'username_search'")).all()
    engine.dispose()

    # Alembic cannot compare an expression that names its collation.
    assert [it for it in differences if getattr(it[1], "name", "") != "uq_users_username"] == []
    assert len(functions) == 1
