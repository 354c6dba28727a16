"""The migrations make what the models say, and can be taken back."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from tests.site import TOP
from web.data import models
from web.data.postgres import Base

TABLES = {model.__tablename__ for model in Base.__subclasses__()}


def test_up_down_and_up_again(environ: dict[str, str]) -> None:
    assert models.User.__tablename__ in TABLES
    config = Config(TOP / "alembic.ini")
    engine = create_engine(environ["DATABASE_URL"])

    def tables() -> set[str]:
        return set(inspect(engine).get_table_names()) - {"alembic_version"}

    try:
        command.downgrade(config, "base")
        assert tables() == set()
        command.upgrade(config, "head")
        assert tables() == TABLES
    finally:
        command.upgrade(config, "head")
        engine.dispose()


def test_the_tables_are_those_of_the_models(environ: dict[str, str]) -> None:
    engine = create_engine(environ["DATABASE_URL"])
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
        functions = connection.execute(text("SELECT proname FROM pg_proc WHERE proname = 'username_search'")).all()
    engine.dispose()

    # Alembic cannot compare an expression that names its collation.
    assert [it for it in differences if getattr(it[1], "name", "") != "uq_users_username"] == []
    assert len(functions) == 1
