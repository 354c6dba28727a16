"""The parts of a real Knock, started as processes, and ways to break them."""

import asyncio
import re
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
from sqlalchemy import select

from tests import site as sites
from tests.faults.proxy import Proxy
from tests.site import Site
from tests.telegram import bot_api
from tests.telegram.bot_api import FakeTelegram
from tests.telegram.fixtures import BOT, WORKER, Program
from web import settings
from web.accounts import sessions
from web.accounts.sessions import Browser, Endings
from web.accounts.users import Verified
from web.data import postgres
from web.data.models import Session, User
from web.server import embedded
from web.telegram import linking

SECRET_KEY = "the-key-of-the-fault-harness-long-enough-for-it"


@dataclass(frozen=True)
class Somebody:
    """A registered user who is signed in."""

    id: int
    username: str
    cookie: str
    """The header."""


@dataclass
class Parts:
    """Embedded servers and a fake Bot API; the scenarios start sites, workers and bots."""

    environ: dict[str, str]
    postgres_folder: Path
    postgres: psycopg.Connection[Any]
    valkey: redis.Redis
    telegram: FakeTelegram

    @contextmanager
    def site(self, **more: str) -> Iterator[Site]:
        """`python -m web`, with two processes unless WEB_PROCESSES is given."""
        with sites.running(self.environ, **more) as site:
            yield site

    @contextmanager
    def worker(self, **more: str) -> Iterator[Program]:
        with _program(Program(WORKER, {**self.environ, **more})) as program:
            yield program

    @contextmanager
    def bot(self, **more: str) -> Iterator[Program]:
        with _program(Program(BOT, {**self.environ, **more})) as program:
            yield program

    @contextmanager
    def before_postgres(self) -> Iterator[tuple[Proxy, dict[str, str]]]:
        """A proxy in front of PostgreSQL, and the variables that make a program use it."""
        folder = self.environ["DATABASE_URL"].partition("host=")[2]
        with Proxy(f"{folder}/.s.PGSQL.5432").running() as proxy:
            url = f"postgresql+psycopg://knock@127.0.0.1:{proxy.port}/postgres?sslmode=disable&gssencmode=disable"
            yield proxy, {"DATABASE_URL": url}

    @contextmanager
    def before_valkey(self) -> Iterator[tuple[Proxy, dict[str, str]]]:
        """A proxy in front of Valkey, and the variables that make a program use it."""
        with Proxy(self.environ["REDIS_URL"].removeprefix("unix://")).running() as proxy:
            yield proxy, {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}"}

    async def people(self, count: int) -> list[Somebody]:
        """New users who are signed in, without real password hashes, which take too long."""
        chosen = settings.read({**self.environ, "PORT": "8000"})
        prefix = secrets.token_hex(4)
        found = []
        async with postgres.connect(chosen) as engine, postgres.database(engine)() as db:
            for number in range(count):
                user = User(username=f"{prefix}-{number}", password_hash="none")
                db.add(user)
                await db.flush()
                browser = Browser("127.0.0.1", "the fault harness", None)
                cookie = await sessions.start(db, chosen, Endings(lambda _: None), Verified(user, None), browser)
                found.append(Somebody(user.id, user.username, f"session={cookie}"))
            await db.commit()
        return found

    async def link_codes(self, people: Sequence[Somebody]) -> dict[int, str]:
        """The codes that the settings page would show to each of them, by user id."""
        chosen = settings.read({**self.environ, "PORT": "8000"})
        async with postgres.connect(chosen) as engine, postgres.database(engine).begin() as db:
            query = select(Session.user_id, Session.id).where(Session.user_id.in_([person.id for person in people]))
            return {user: await linking.make_code(db, user, session) for user, session in await db.execute(query)}

    async def absent(self, count: int) -> list[tuple[Somebody, int]]:
        """New users who linked Telegram and logged out, with the ids of their chats."""
        found = [(person, 10**9 + person.id) for person in await self.people(count)]
        for person, chat_id in found:
            self.change(person, token=0, telegram_chat_id=chat_id)
        return found

    def change(self, person: Somebody, **columns: object) -> None:
        changes = ", ".join(f"{name} = %s" for name in columns)
        self.postgres.execute(f"UPDATE users SET {changes} WHERE id = %s".encode(), [*columns.values(), person.id])

    def query(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.postgres.execute(query.encode(), parameters).fetchall()

    def clean(self) -> None:
        """Delete all notifications and everything in Valkey, and forget all calls of the Bot API."""
        self.postgres.execute("DELETE FROM notifications")
        self.valkey.flushall()
        self.telegram.calls.clear()
        self.telegram.orders.clear()

    def stop_postgres(self, how: str = "immediate") -> None:
        """Stop PostgreSQL; `immediate` amounts to a crash."""
        self.postgres.close()
        _pg_ctl(self.postgres_folder, "stop", "-m", how)

    def start_postgres(self) -> None:
        """Start PostgreSQL with its first options."""
        options = (self.postgres_folder / "postmaster.opts").read_text()
        words = " ".join(re.findall(r'"(-c|\S+=\S*)"', options))
        _pg_ctl(self.postgres_folder, "start", "-l", str(self.postgres_folder / "server.log"), "-o", words)
        self.postgres = _connect(self.environ["DATABASE_URL"])


@contextmanager
def started(folder: Path, *, fsync: bool) -> Iterator[Parts]:
    """PostgreSQL, Valkey and a fake Bot API on data in `folder`. `fsync`: whether PostgreSQL waits for the disk."""
    with ExitStack() as stack:
        telegram = stack.enter_context(bot_api.running())
        environ = {
            "DATABASE_URL": stack.enter_context(embedded.postgres(folder / "postgres")),
            "REDIS_URL": stack.enter_context(embedded.valkey(folder / "valkey")),
            "SECRET_KEY": SECRET_KEY,
            "DATA_DIR": str(folder),
            "WEB_PROCESSES": "2",
            "SOCKET_RATE": "0",
            "TELEGRAM_BOT_TOKEN": bot_api.TOKEN,
            "TELEGRAM_API_URL": telegram.url,
            "SITE_URL": "http://knock.example",
        }
        postgres = _connect(environ["DATABASE_URL"])
        if not fsync:
            postgres.execute("ALTER SYSTEM SET fsync = off")
            postgres.execute("SELECT pg_reload_conf()")
        sites.migrate(environ)
        valkey = stack.enter_context(redis.Redis.from_url(environ["REDIS_URL"], decode_responses=True))
        parts = Parts(environ, folder / "postgres", postgres, valkey, telegram)
        stack.callback(lambda: parts.postgres.close())
        yield parts


def children(site: Site) -> list[psutil.Process]:
    """The web processes of a site that has several, oldest first."""
    assert site.process is not None
    found = psutil.Process(site.process.pid).children()
    web = [process for process in found if "web.server.process" in _command(process)]
    return sorted(web, key=lambda process: process.create_time())


def kill(process: psutil.Process | Site) -> None:
    """Kill it without warning, like a power cut."""
    if isinstance(process, Site):
        process.stop(signal.SIGKILL)
    else:
        process.kill()


async def eventually(is_so: Callable[[], object], patience: float = 30.0, pause: float = 0.05) -> bool:
    """Wait until it is so. Returns whether that happened in time."""
    deadline = time.monotonic() + patience
    while not is_so():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(pause)
    return True


def _command(process: psutil.Process) -> Sequence[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return ()


@contextmanager
def _program(program: Program) -> Iterator[Program]:
    program.start()
    try:
        yield program
    finally:
        # Not stopped politely: that takes a worker seconds.
        if program.process is not None and program.process.poll() is None:
            program.kill()


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def _pg_ctl(folder: Path, action: str, *words: str) -> None:
    code = embedded._run("pg_ctl", action, "-s", "-w", "-t", "60", "-D", str(folder), *words)
    assert code == 0, f"pg_ctl {action} ended with {code}"
