"""All of Knock on one machine, `python -m web.server.local`: what scripts/run does once everything is installed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Thread
from typing import IO, Any

import redis
from alembic import command
from alembic.config import Config

from web import settings
from web.server import CannotStart, cluster, embedded, leash, rights
from web.server.keeper import TRIES, Keeper
from web.server.listening import listen
from web.server.rights import TOP
from web.settings import BadSetting, Settings

LEAVING_SECONDS = 15
"""For a process that was told to end; then it is killed."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends the run: Ctrl-C, a service manager, a terminal that was closed."""


def main() -> int:
    """The exit code: 0 after Ctrl-C or SIGTERM, 1 if it cannot start or what it needs ends for good."""
    os.umask(0o022)  # what is private says so itself; as root, the servers' user has to pass the folders made here
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        # Checked before anything is started. The addresses of embedded servers are known only afterwards.
        chosen = settings.read({"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://", **_given()})
        listen(chosen.host, chosen.port).close()
        given_up: list[str] = []
        with _servers(chosen.data_dir, given_up.append):
            _migrate()
            _demand_redis(settings.read(os.environ).redis_url)
            return _serve(chosen, given_up)
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
def _servers(data_dir: Path | None, give_up: Callable[[str], None]) -> Iterator[None]:
    """Runs the embedded servers that are needed. Puts their addresses into the environment, and into DATA_DIR."""
    needed = {"DATABASE_URL": embedded.postgres, "REDIS_URL": embedded.valkey}
    started = {}
    with ExitStack() as stack:
        for name, server in needed.items():
            if not os.environ.get(name, "").strip():
                if data_dir is None:
                    raise CannotStart(f"{name} must be set, or DATA_DIR, where an embedded server keeps its data.")
                try:
                    os.environ[name] = started[name] = stack.enter_context(server(data_dir / server.__name__, give_up))
                except OSError as error:
                    raise CannotStart(f"DATA_DIR cannot be used: {error}.") from None
        if data_dir is not None and started:
            addresses = data_dir / settings.ADDRESSES
            addresses.write_text(json.dumps(started))
            stack.callback(addresses.unlink, missing_ok=True)
        yield


def _migrate() -> None:
    command.upgrade(Config(TOP / "alembic.ini"), "head")


def _demand_redis(url: str) -> None:
    with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
        try:
            client.ping()
        except redis.RedisError as error:
            raise CannotStart(f"Redis does not answer at REDIS_URL: {error}") from None
    cluster.refuse(url)


def _serve(chosen: Settings, given_up: list[str]) -> int:
    """Run the processes until a signal comes or something that the site cannot do without has ended for good."""
    # With the secret in the environment, no process has to read DATA_DIR.
    environ = {**os.environ, "SECRET_KEY": chosen.secret_keys[0], "PYTHONUNBUFFERED": "1"}
    how = rights.given_up(environ)
    with ExitStack() as stack:
        keepers = []
        for name, arguments in _commands(chosen).items():
            # "web" is a supervisor, which replaces its processes and ends only if that cannot help.
            tries = 1 if name == "web" else TRIES
            keeper = Keeper(name, partial(_running, name, arguments, **how), given_up.append, tries=tries)
            keepers.append(stack.enter_context(keeper))
        for keeper in keepers:
            stack.callback(keeper.end)  # of all before the first is waited for
        Thread(target=_announce, args=(chosen.address,), daemon=True).start()
        while not given_up:
            time.sleep(0.1)
    print(f"knock: {given_up[0]}, so everything ends.", file=sys.stderr)
    return 1


def _commands(chosen: Settings) -> dict[str, list[str]]:
    commands = {
        "web": ["-m", "web"],
        "worker": ["-m", "dramatiq", "web.tasks", "--skip-logging", "--processes", "1", "--threads", "8"],
    }
    if chosen.telegram_bot_token:
        commands["bot"] = ["-m", "web.telegram.bot"]
    return commands


@contextmanager
def _running(name: str, arguments: list[str], **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a process whose output is printed with its name."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that Ctrl-C only reaches us
        **how,
    )
    Thread(target=_print, args=(name, process.stdout), daemon=True).start()
    try:
        # SIGTERM, once and to the process alone: Dramatiq drops its tasks when its children get it twice.
        with leash.at_end("kill", str(process.pid)):
            yield process
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.wait(LEAVING_SECONDS)
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # it, if it did not end, and what it left behind


def _print(name: str, output: IO[bytes]) -> None:
    for line in output:
        with suppress(OSError):  # the terminal was closed; read on, or the process would block
            sys.stdout.write(f"{time.strftime('%H:%M:%S')} {name:6} | {line.decode(errors='replace')}")
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
