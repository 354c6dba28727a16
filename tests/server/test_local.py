"""All of Knock on one machine, as scripts/run starts it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest

from tests.site import TOP, eventually, free_port

COMMAND = [sys.executable, "-m", "web.server.local"]
PATIENCE = 60.0
"""Seconds for a start, which makes a database, and for an end."""


@dataclass
class Run:
    process: subprocess.Popen[bytes]
    port: int
    output: Path
    data: Path

    @property
    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.output.read_text()
        return f"Knock is ready: http://127.0.0.1:{self.port}\n" in self.output.read_text()

    @property
    def processes(self) -> list[psutil.Process]:
        """Everything that it started. PostgreSQL's server is nobody's child."""
        postmaster = psutil.Process(int((self.data / "postgres" / "postmaster.pid").read_text().split()[0]))
        return [*psutil.Process(self.process.pid).children(recursive=True), postmaster, *postmaster.children()]

    def process_of(self, *arguments: str) -> psutil.Process:
        children = psutil.Process(self.process.pid).children()
        (found,) = [child for child in children if child.cmdline()[1 : 1 + len(arguments)] == list(arguments)]
        return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """A DATA_DIR, not in pytest's folders: as root, each start of pytest closes those to PostgreSQL's user."""
    with tempfile.TemporaryDirectory(prefix="knock-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "data"


@contextmanager
def running(folder: Path, port: int, **environ: str) -> Iterator[Run]:
    output = folder.with_name("output")
    with open(output, "w") as file:
        chosen = environment(DATA_DIR=str(folder), PORT=str(port), **environ)
        process = subprocess.Popen(COMMAND, cwd=TOP, env=chosen, stdout=file, stderr=file)
    run = Run(process, port, output, folder)
    try:
        eventually(lambda: run.is_ready, PATIENCE)
        yield run
    finally:
        process.terminate()
        process.wait(PATIENCE)


def environment(**more: str) -> Mapping[str, str]:
    """The environment without what other tests set."""
    theirs = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DATA_DIR", "WEB_PROCESSES", "TELEGRAM_BOT_TOKEN")
    return {**{name: value for name, value in os.environ.items() if name not in theirs}, **more}


def refusal(**environ: str) -> str:
    """What a run says that does not start."""
    ended = subprocess.run(
        COMMAND, cwd=TOP, env=environment(**environ), capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode != 0
    assert not ended.stdout
    return ended.stderr


def test_a_run_serves_until_ctrl_c_and_leaves_no_process_behind(folder: Path) -> None:
    with running(folder, free_port()) as run:
        assert httpx.get(f"http://127.0.0.1:{run.port}/readyz").status_code == 200
        processes = run.processes
        assert {"postgres", "valkey-server"} <= {process.name() for process in processes}
        eventually(lambda: " worker | " in run.output.read_text(), PATIENCE)

        run.process.send_signal(signal.SIGINT)

        assert run.process.wait(PATIENCE) == 0
        assert psutil.wait_procs(processes, timeout=PATIENCE)[1] == []
        assert "Traceback" not in run.output.read_text()


def test_a_run_that_is_killed_leaves_no_process_behind_and_can_be_repeated(folder: Path) -> None:
    port = free_port()
    with running(folder, port) as run:
        processes = run.processes

        run.process.kill()

        with running(folder, port):
            assert psutil.wait_procs(processes, timeout=PATIENCE)[1] == []


def test_a_process_that_dies_ends_the_run(environ: dict[str, str], folder: Path) -> None:
    servers = {name: environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
    with running(folder, free_port(), **servers) as run:
        children = psutil.Process(run.process.pid).children(recursive=True)
        run.process_of("-m", "web").kill()

        assert run.process.wait(PATIENCE) == 1
        assert psutil.wait_procs(children, timeout=PATIENCE)[1] == []
        assert "knock: web ended by itself (exit code -9), so everything ends.\n" in run.output.read_text()


def test_a_port_in_use_is_one_sentence(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        said = refusal(DATA_DIR=str(folder), PORT=str(port))

    assert (
        said == f"knock: cannot serve on 127.0.0.1 port {port}: Address already in use. HOST and PORT choose where.\n"
    )


def test_a_bad_setting_is_one_sentence(folder: Path) -> None:
    said = refusal(DATA_DIR=str(folder), WEB_PROCESSES="none")

    assert said == "knock: WEB_PROCESSES is 'none', but it must be a whole number, 1 to 64.\n"


def test_a_folder_in_use_is_one_sentence(environ: dict[str, str]) -> None:
    taken = environ["DATA_DIR"]

    said = refusal(DATA_DIR=taken, PORT=str(free_port()))

    assert said == f"knock: Another run uses {taken}/postgres; give this one a DATA_DIR of its own.\n"
