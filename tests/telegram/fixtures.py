"""A site with Telegram: the worker and the bot as processes of their own, and a fake Bot API."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psycopg
import pytest

from tests import site as sites
from tests.site import Person, Site, eventually
from tests.telegram import bot_api
from tests.telegram.bot_api import FakeTelegram

SITE_URL = "http://knock.example"
PATIENCE = 90.0
"""Seconds to wait for the worker or the bot, which may be starting: beside three other workers of pytest, for half a
minute."""
WORKER = ("-m", "dramatiq", "web.tasks", "--skip-logging", "--processes", "1", "--threads", "8")
BOT = ("-m", "web.telegram.bot")


@dataclass
class Program:
    """A process and its children."""

    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, *self.arguments]
            self.process = subprocess.Popen(
                command, cwd=sites.TOP, env={**os.environ, **self.environ}, start_new_session=True
            )

    def kill(self) -> None:
        """As if the machine lost its power."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """Terminate it and wait. Returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@dataclass
class Knock:
    """All of Knock, with Telegram."""

    telegram: FakeTelegram
    site: Site
    worker: Program
    bot: Program
    environ: Mapping[str, str]
    chat_ids: Iterator[int] = field(default_factory=lambda: count(7001))
    postgres: psycopg.Connection = field(init=False)

    def person(self, username: str) -> Person:
        """Somebody who registered and is logged in."""
        return self.site.person(username)

    def link(self, person: Person) -> int:
        """Link them to Telegram. Returns the id of their chat with the bot."""
        chat_id = next(self.chat_ids)
        self.change(person, telegram_chat_id=chat_id, telegram_name=person.username)
        return chat_id

    def absent(self, username: str) -> tuple[Person, int]:
        """Somebody who is linked and logged out, and the id of their chat."""
        person = self.person(username)
        chat_id = self.link(person)
        person.log_out()
        assert self.user(person, "token") == 0
        return person, chat_id

    def change(self, person: Person, **columns: object) -> None:
        changes = ", ".join(f"{name} = %s" for name in columns)
        query = f"UPDATE users SET {changes} WHERE username = %s"
        self.postgres.execute(query.encode(), [*columns.values(), person.username])

    def card(self, chat_id: int) -> str:
        """The one card that the chat shows, once there is one."""
        eventually(lambda: self.telegram.shown(chat_id), PATIENCE)
        (card,) = self.telegram.shown(chat_id)
        return card

    def user(self, person: Person, column: str) -> Any:
        query = f"SELECT {column} FROM users WHERE username = %s"
        row = self.postgres.execute(query.encode(), [person.username]).fetchone()
        assert row is not None
        return row[0]

    def rows(self, person: Person, columns: str = "state") -> list[Any]:
        """Somebody's rows of the outbox, the oldest first; tuples if there are several columns."""
        query = f"SELECT {columns} FROM notifications JOIN users ON users.id = user_id WHERE username = %s ORDER BY 1"
        if columns == "state":
            query = query.replace("ORDER BY 1", "ORDER BY notifications.id")
        found = self.postgres.execute(query.encode(), [person.username]).fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    def hurry(self) -> None:
        """Make everything due now that is pending or being sent."""
        self.postgres.execute("UPDATE notifications SET due_at = now() WHERE state IN ('pending', 'sending')")

    def settled(self, person: Person, patience: float = PATIENCE) -> list[str]:
        """The states of somebody's rows, once all of them are final."""
        eventually(lambda: self.rows(person) and not {"pending", "sending"} & set(self.rows(person)), patience)
        return self.rows(person)


@pytest.fixture(scope="session")
def shared_fake() -> Iterator[FakeTelegram]:
    with bot_api.running() as fake:
        yield fake


@pytest.fixture
def fake(shared_fake: FakeTelegram) -> FakeTelegram:
    """A Bot API for callers in this process, which nobody has called yet."""
    shared_fake.forget()
    return shared_fake


@pytest.fixture(scope="session")
def programs(environ: dict[str, str]) -> Iterator[Knock]:
    with ExitStack() as stack:
        telegram = stack.enter_context(bot_api.running())
        more = {
            "TELEGRAM_BOT_TOKEN": bot_api.TOKEN,
            "TELEGRAM_API_URL": telegram.url,
            "SITE_URL": SITE_URL,
            "WEB_PROCESSES": "1",
            "METRICS_PORT": str(sites.free_port()),
        }
        site = stack.enter_context(sites.running(environ, **more))
        environ = {**environ, **more}
        knock = Knock(telegram, site, Program(WORKER, environ), Program(BOT, environ), environ)
        for program in (knock.worker, knock.bot):
            program.start()
            stack.callback(program.stop)
        yield knock


@pytest.fixture
def knock(programs: Knock, clean: None, postgres: psycopg.Connection) -> Knock:
    """All of Knock with nobody in it, and a Telegram that has no orders."""
    programs.postgres = postgres
    programs.worker.start()
    programs.bot.start()
    programs.telegram.forget()
    return programs
