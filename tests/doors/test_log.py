"""What the log says, and what it never says."""

import json
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests import leaks
from tests import site as sites
from tests.site import METRICS_TOKEN, PASSWORD, TOP, Person, Site
from tests.telegram.bot_api import TOKEN as TELEGRAM_TOKEN
from tests.telegram.fixtures import WORKER
from web import log, settings

TOKEN = "123456789:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
MARK = "a text that only its readers may see"


@pytest.fixture
def logged(environ: dict[str, str], tmp_path: Path, clean: None) -> Iterator[tuple[Site, Path]]:
    """A site that logs JSON, and the file with its log."""
    file = tmp_path / "log"
    site = Site({**environ, "PORT": str(sites.free_port()), "LOG_FORMAT": "json", "LIMITS": "on"})
    with file.open("w") as output:
        site.process = subprocess.Popen(
            [sys.executable, "-m", "web"], cwd=TOP, env={**dict(site.environ)}, stdout=output, stderr=output
        )
        sites.eventually(site.answers, patience=60)
        try:
            yield site, file
        finally:
            site.stop()


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_what_happens_to_an_account_is_logged_with_the_request_and_without_secrets(
    logged: tuple[Site, Path], postgres: psycopg.Connection
) -> None:
    site, file = logged
    alice, bob = site.person("alice"), site.person("bob")
    wrong = alice.http.post("/login", data={"username": "alice", "password": "wrong " + MARK})
    site.client().post("/login", data={"username": PASSWORD, "password": "alice"})  # the fields mixed up
    alice.http.post("/settings/password", data={"current": "wrong " + MARK, "password": PASSWORD})
    alice.http.post("/settings/password", data={"current": PASSWORD, "password": "another " + PASSWORD})
    alice.http.post("/settings/sessions/end")
    alice.post("bob", MARK)
    postgres.execute("UPDATE users SET banned_at = now() WHERE username = 'bob'")
    Person("bob", site).log_in()
    cookies = [*alice.cookies.values(), *bob.cookies.values()]
    alice.log_out()
    site.stop()

    events = [line for line in lines(file) if line["name"] == "knock.events"]
    assert [(line["event"], line.get("user")) for line in events] == [
        ("registered", "alice"),
        ("login", "alice"),
        ("registered", "bob"),
        ("login", "bob"),
        ("login failed", "alice"),
        ("login failed", None),
        ("password kept", "alice"),
        ("password changed", "alice"),
        ("other sessions ended", "alice"),
        ("login refused", "bob"),
        ("log out", "alice"),
    ]
    (failed,) = [line for line in events if line["event"] == "login failed" and line["user"]]
    assert (failed["request_id"], failed["address"]) == (wrong.headers["x-request-id"], "127.0.0.1")
    everything = file.read_text()
    hashes = [row[0] for row in postgres.execute("SELECT password_hash FROM users").fetchall()]
    for secret in (PASSWORD, MARK, "$argon2", *hashes, *cookies, site.environ["SECRET_KEY"]):
        assert secret not in everything


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_database_error_shows_no_row(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    chosen = replace(settings.read(environ), log_format=log_format)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        log.configure(chosen)
        with psycopg.connect(environ["DATABASE_URL"].replace("+psycopg", "")) as connection:
            try:
                connection.execute(
                    "INSERT INTO users (username, password_hash, token) VALUES ('alice', %s, 2)",
                    [f"$argon2id$v=19$m=1$x${MARK}\n{MARK}"],
                )
            except psycopg.Error as error:
                logging.getLogger("web").exception("It failed: %s", error)
        logging.getLogger("web").warning("https://api.telegram.org/bot%s/getMe failed", TOKEN)
    finally:
        root.handlers[:], root.level = before
    said = capsys.readouterr().err

    assert "users_token" in said or "ck_users_token" in said
    assert log.HIDDEN in said
    for secret in (MARK, "$argon2id", TOKEN):
        assert secret not in said
    if log_format == "json":
        assert [json.loads(line)["levelname"] for line in said.splitlines()] == ["ERROR", "WARNING"]


def test_the_worker_and_the_migrations_log_json_too(environ: dict[str, str], tmp_path: Path) -> None:
    chosen = {**os.environ, **environ, "LOG_FORMAT": "json"}
    file = tmp_path / "log"
    with file.open("w") as output:
        worker = subprocess.Popen([sys.executable, *WORKER], cwd=TOP, env=chosen, stdout=output, stderr=output)
        try:
            sites.eventually(lambda: "ready for action" in file.read_text(), patience=60)
        finally:
            worker.terminate()
            worker.wait(20)
    assert {"web.tasks", "dramatiq.WorkerProcess(0)"} <= {line["name"] for line in lines(file)}

    alembic = (sys.executable, "-m", "alembic")
    with psycopg.connect(environ["DATABASE_URL"].replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE migrations")
        try:
            chosen["DATABASE_URL"] = environ["DATABASE_URL"].replace("/postgres?", "/migrations?")
            with file.open("w") as output:
                subprocess.run([*alembic, "upgrade", "head"], cwd=TOP, env=chosen, stderr=output, check=True)
        finally:
            connection.execute("DROP DATABASE migrations")
    assert "Running upgrade" in str(lines(file)[0]["message"])


def test_a_leak_is_found_wherever_a_test_runs(alice: Person, bob: Person) -> None:
    alice.post("bob", MARK)
    (cookie, *_) = alice.cookies.values()
    for secret in (PASSWORD, "$argon2id$v=19", TELEGRAM_TOKEN, alice.site.environ["SECRET_KEY"], METRICS_TOKEN):
        assert len(leaks.found(f"a line\nand one with {secret} in it\n")) == 1
    for secret in (cookie, MARK):
        assert leaks.found(f"a line\nand one with {secret} in it\n") == [f"{secret!r} in: and one with {secret} in it"]
    assert leaks.found("POST /chat/bob/messages by alice from 127.0.0.1") == []


def test_sqlalchemy_shows_no_parameters(environ: dict[str, str], clean: None, caplog: pytest.LogCaptureFixture) -> None:
    secret = secrets.token_hex(8)
    with sites.in_this_process(environ) as site:
        site.person("alice")
        with psycopg.connect(environ["DATABASE_URL"].replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("ALTER TABLE users RENAME password_hash TO gone")
            try:
                answer = Person(f"name-{secret}", site).register()
                sites.eventually(lambda: "UndefinedColumn" in caplog.text)  # logged after the answer
            finally:
                connection.execute("ALTER TABLE users RENAME gone TO password_hash")
    assert answer.status_code == 500
    assert "$argon2" not in caplog.text
    assert PASSWORD not in caplog.text
