"""All of Knock on one machine, `python -m web.server.local`: what scripts/run does once everything is installed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Thread
from typing import IO

import redis
from alembic import command
from alembic.config import Config

from web import settings
from web.server import CannotStart, embedded, leash
from web.server.listening import listen
from web.settings import BadSetting, Settings

TOP = Path(__file__).resolve().parent.parent.parent
LEAVING_SECONDS = 15
"""For a process that was told to end; then it is killed."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends the run: Ctrl-C, a service manager, a terminal that was closed."""


def main() -> int:
    """The exit code: 0 after Ctrl-C or SIGTERM, 1 if it cannot start or one of its processes ends by itself."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        # Checked before anything is started. The addresses of embedded servers are known only afterwards.
        chosen = settings.read({"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://", **_given()})
        listen(chosen.host, chosen.port).close()
        with _servers(chosen.data_dir):
            _migrate()
            _demand_redis(os.environ["REDIS_URL"])
            return _serve(chosen)
    except (BadSetting, CannotStart) as error:
        print(f"knock: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _interrupt(*_: object) -> None:
    """The first signal ends the run. The next ones change nothing."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _given() -> dict[str, str]:
    """The environment without empty variables. Only DATA_DIR means something when it is empty."""
    return {name: value for name, value in os.environ.items() if value.strip() or name == "DATA_DIR"}


@contextmanager
def _servers(data_dir: Path | None) -> Iterator[None]:
    """The embedded servers that are needed. Puts their addresses into the environment."""
    needed = {"DATABASE_URL": embedded.postgres, "REDIS_URL": embedded.valkey}
    with ExitStack() as stack:
        for name, server in needed.items():
            if not os.environ.get(name, "").strip():
                if data_dir is None:
                    raise CannotStart(f"{name} must be set, or DATA_DIR, where an embedded server keeps its data.")
                try:
                    os.environ[name] = stack.enter_context(server(data_dir / server.__name__))
                except OSError as error:
                    raise CannotStart(f"DATA_DIR cannot be used: {error}.") from None
        yield


def _migrate() -> None:
    command.upgrade(Config(TOP / "alembic.ini"), "head")


def _demand_redis(url: str) -> None:
    with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
        try:
            client.ping()
        except redis.RedisError as error:
            raise CannotStart(f"Redis does not answer at REDIS_URL: {error}") from None


def _serve(chosen: Settings) -> int:
    """Run the processes until a signal comes or one of them ends by itself."""
    running: dict[str, subprocess.Popen[str]] = {}
    try:
        with ExitStack() as leashes:
            for name, arguments in _commands(chosen).items():
                running[name] = _start(name, arguments)
                # SIGTERM, once and to the process alone: Dramatiq drops its tasks when its children get it twice.
                leashes.enter_context(leash.at_end("kill", str(running[name].pid)))
            Thread(target=_announce, args=(chosen.address,), daemon=True).start()
            while not (ended := [name for name, process in running.items() if process.poll() is not None]):
                time.sleep(0.1)
            print(f"knock: {ended[0]} ended by itself, so everything ends.", file=sys.stderr)
            return 1
    finally:
        for process in running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(LEAVING_SECONDS)
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)  # it, if it did not end, and what it left behind


def _commands(chosen: Settings) -> dict[str, list[str]]:
    commands = {
        "web": ["-m", "web"],
        "worker": ["-m", "dramatiq", "web.tasks", "--processes", "1", "--threads", "8"],
    }
    if chosen.telegram_bot_token:
        commands["bot"] = ["-m", "web.telegram.bot"]
    return commands


def _start(name: str, arguments: list[str]) -> subprocess.Popen[str]:
    """A process whose output is printed with its name. It has a session of its own, so that Ctrl-C only reaches us."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=TOP,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    Thread(target=_print, args=(name, process.stdout), daemon=True).start()
    return process


def _print(name: str, output: IO[str]) -> None:
    for line in output:
        with suppress(OSError):  # the terminal was closed; read on, or the process would block
            sys.stdout.write(f"{time.strftime('%H:%M:%S')} {name:6} | {line}")
            sys.stdout.flush()


def _announce(address: str) -> None:
    """Prints the address once the site answers there."""
    host = address.removeprefix("http://")
    while True:
        with suppress(OSError, HTTPException), closing(HTTPConnection(host, timeout=5)) as connection:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                print(f"\nKnock is ready: {address}\n", flush=True)
                return
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
