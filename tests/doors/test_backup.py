"""The documented way back: a backup is restored over the tables of a newer release."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from tests.site import TOP
from web.server import embedded

DOCKER = """#!/bin/sh
# docker compose exec -T SERVICE PROGRAM …: the program itself. Everything else about containers is left out.
[ "$1 $2 $3" = "compose exec -T" ] || exit 0
shift 4
exec "$@"
"""


@pytest.fixture
def container(environ: Mapping[str, str], postgres: psycopg.Connection) -> Iterator[dict[str, str]]:
    """The environment in which `docker` runs the programs of PostgreSQL at the embedded server."""
    with TemporaryDirectory() as programs:
        docker = Path(programs) / "docker"
        docker.write_text(DOCKER)
        docker.chmod(0o755)
        (Path(programs) / "valkey-cli").write_text("#!/bin/sh\n")
        (Path(programs) / "valkey-cli").chmod(0o755)
        path = f"{programs}:{embedded._postgres('psql').parent}:{os.environ['PATH']}"
        host = environ["DATABASE_URL"].partition("host=")[2]
        postgres.execute("CREATE DATABASE knock")
        yield {**os.environ, "PATH": path, "PGHOST": host}
        postgres.execute("DROP DATABASE IF EXISTS knock WITH (FORCE)")


def test_the_recipe_for_containers_restores_over_newer_tables(
    environ: dict[str, str], container: dict[str, str], tmp_path: Path
) -> None:
    (saving, restoring) = re.findall(
        r"```sh\n((?:(?!```).)*?pg_(?:dump|restore) (?:(?!```).)*)```", recipe(), flags=re.DOTALL
    )[:2]
    url = environ["DATABASE_URL"].replace("/postgres?", "/knock?")
    migrating = {**os.environ, **environ, "DATABASE_URL": url}
    alembic(migrating, "upgrade", "0002")
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as knock:
        knock.execute("INSERT INTO users (username, password_hash) VALUES ('alice', '!')")
        subprocess.run(["sh", "-euc", saving], env=container, cwd=tmp_path, check=True)
        alembic(migrating, "upgrade", "head")
        knock.execute("INSERT INTO users (username, password_hash) VALUES ('bob', '!')")

    # On the one server there is only the socket, and no host to ask for.
    subprocess.run(["sh", "-euc", restoring.replace(" -h 127.0.0.1", "")], env=container, cwd=tmp_path, check=True)

    with psycopg.connect(url.replace("+psycopg", "")) as knock:
        assert knock.execute("SELECT username FROM users").fetchall() == [("alice",)]
        assert knock.execute("SELECT to_regclass('blocks')").fetchone() == (None,)
    alembic(migrating, "upgrade", "head")


def alembic(environ: Mapping[str, str], *words: str) -> None:
    command = [sys.executable, "-m", "alembic", *words]
    subprocess.run(command, cwd=TOP, env=environ, check=True, capture_output=True)


def recipe() -> str:
    return (TOP / "docs" / "deploy.md").read_text().partition("## Backup and restore")[2]
