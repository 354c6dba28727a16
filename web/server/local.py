"""All of Knock on one machine, `python -m web.server.local`: what scripts/run does once everything is installed."""

import errno
import multiprocessing
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import redis
from alembic import command
from alembic.config import Config
from honcho.compat import ProcessManager
from honcho.manager import Manager
from honcho.printer import Message, Printer

from web import settings
from web.server import embedded

TOP = Path(__file__).resolve().parent.parent.parent
PORT_PATIENCE = 5
"""Seconds in which the processes of a run that was killed end by themselves and give the port back."""


class Refused(Exception):
    """Why Knock does not start, in words for the operator."""


def main() -> int:
    """The exit code: 0 after Ctrl-C or SIGTERM, 1 where it cannot start or one of its processes ended by itself."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A terminal that is closed ends everything, in the same order as Ctrl-C.
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        # Checked before anything is started; the addresses of embedded servers are known only afterwards.
        chosen = settings.read({"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://", **_given()})
        _demand_port(chosen.host, chosen.port)
        with _servers(chosen.data_dir):
            _migrate()
            _demand_redis(os.environ["REDIS_URL"])
            return _serve(chosen)
    except (settings.BadSetting, embedded.ServerFailed, Refused) as error:
        print(f"knock: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _given() -> dict[str, str]:
    """The environment without what is set to nothing; DATA_DIR alone means something when it is empty."""
    return {name: value for name, value in os.environ.items() if value.strip() or name == "DATA_DIR"}


@contextmanager
def _servers(data_dir: Path | None) -> Iterator[None]:
    """The embedded servers that are needed, with their addresses in the environment, for us and for our processes."""
    needed = {"DATABASE_URL": embedded.postgres, "REDIS_URL": embedded.valkey}
    with ExitStack() as stack:
        for name, server in needed.items():
            if not os.environ.get(name, "").strip():
                if data_dir is None:
                    raise Refused(f"{name} must be set, or DATA_DIR, where an embedded server keeps its data.")
                try:
                    os.environ[name] = stack.enter_context(server(data_dir / server.__name__))
                except OSError as error:
                    raise Refused(f"DATA_DIR cannot be used: {error}.") from None
        yield


def _migrate() -> None:
    command.upgrade(Config(TOP / "alembic.ini"), "head")


def _demand_port(host: str, port: int) -> None:
    """Raises Refused where the web process could not listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + PORT_PATIENCE
    while True:
        try:
            return socket.create_server((host, port), family=family).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise Refused(f"It is not possible to listen at HOST {host}, PORT {port}: {error.strerror}.") from None
        if time.monotonic() > deadline:
            raise Refused(f"PORT {port} is in use by another program; choose another, as in: PORT=8080 scripts/run")
        time.sleep(0.2)


def _demand_redis(url: str) -> None:
    with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
        try:
            client.ping()
        except redis.RedisError as error:
            raise Refused(f"Redis does not answer at REDIS_URL: {error}") from None


def _serve(chosen: settings.Settings) -> int:
    manager = Manager(_Printer())
    manager._procmgr = _Politely()
    for name, arguments in _processes(chosen).items():
        manager.add_process(name, _leashed(arguments), cwd=str(TOP), env={**os.environ, "PYTHONUNBUFFERED": "1"})
    # A process and not a thread: honcho forks, which does not go well with threads.
    multiprocessing.Process(target=_announce, args=(chosen.host, chosen.port), daemon=True).start()
    manager.loop()
    stopped_by = {128 + signal.SIGINT, 128 + signal.SIGTERM}
    return 0 if manager.returncode in stopped_by else 1


def _processes(chosen: settings.Settings) -> dict[str, list[str]]:
    processes = {
        "web": ["-m", "web"],
        "worker": ["-m", "dramatiq", "web.tasks", "--processes", "1", "--threads", "8"],
    }
    if chosen.telegram_bot_token:
        processes["bot"] = ["-m", "web.telegram.bot"]
    return processes


class _Printer(Printer):  # type: ignore[misc]  # honcho has no types
    """Goes on when nobody reads it any more, as after the terminal was closed: the processes are still to be ended."""

    def write(self, message: Message) -> None:
        with suppress(OSError):
            super().write(message)


class _Politely(ProcessManager):  # type: ignore[misc]  # honcho has no types
    """Asks each command to end, and leaves its children to it: asked twice, Dramatiq drops what it is doing."""

    def terminate(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _leashed(arguments: list[str]) -> str:
    """The command in a shell that ends it when we are killed outright, so that no port and no data stay taken."""
    watch = f"while kill -0 {os.getpid()}; do sleep 1; done; kill $$"
    return f"({watch}) >/dev/null 2>&1 & exec {shlex.join([sys.executable, *arguments])}"


def _announce(host: str, port: int) -> None:
    """Prints the address once the site answers there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    parent = os.getppid()
    while os.getppid() == parent:
        with suppress(OSError, HTTPException), closing(HTTPConnection(reachable, port, timeout=5)) as connection:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                print(f"\nKnock is ready: http://{reachable}:{port}\n", flush=True)
                return
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
