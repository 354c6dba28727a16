"""What an operator's machine does to a site: processes killed, a full disk, settings that are wrong."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2 as httpx
import psutil
import psycopg
import pytest
import redis

from tests.server.test_local import PATIENCE, Run, folder, refusal, running
from tests.site import TOP, eventually, free_port
from web.server import CannotStart, embedded, rights

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


__all__ = ["folder"]  # a fixture


def is_ready(run: Run) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{run.port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def server(run: Run, name: str) -> psutil.Process | None:
    """The embedded server of that name, if it runs; of PostgreSQL the first process."""
    return next((child for child in alive(run.process.pid) if child.name() == name), None)


def worker(run: Run) -> psutil.Process | None:
    for child in alive(run.process.pid):
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            if "dramatiq" in child.cmdline():
                return child
    return None


def alive(parent: int) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(parent).children():
        with suppress(psutil.NoSuchProcess, FileNotFoundError):  # it ended while it was looked at
            if child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def register(run: Run, username: str) -> int:
    form = {"username": username, "password": "knock knock knock"}
    return httpx.post(f"http://127.0.0.1:{run.port}/register", data=form).status_code


@pytest.mark.parametrize("name", ["postgres", "valkey-server"])
def test_an_embedded_server_that_is_killed_comes_back_on_the_same_data(folder: Path, name: str) -> None:
    with running(folder, free_port()) as run:
        assert register(run, "alice") == 303
        killed = server(run, name)
        assert killed is not None

        killed.kill()

        eventually(lambda: server(run, name) not in (None, killed), PATIENCE)
        eventually(lambda: is_ready(run), PATIENCE)
        assert register(run, "alice") == 422, "she is still there"
        assert register(run, "bob") == 303
        assert "ended by itself (exit code -9); it is started again in 1 s" in run.output.read_text()


def test_an_embedded_server_that_cannot_start_again_ends_the_run_with_a_sentence(folder: Path) -> None:
    with running(folder, free_port()) as run:
        killed = server(run, "postgres")
        assert killed is not None
        (folder / "postgres" / "postgresql.conf").write_text("nonsense = yes\n")

        killed.kill()

        assert run.process.wait(PATIENCE) == 1
        said = run.output.read_text()
        log = folder / "postgres" / "server.log"
        assert f"knock: The embedded PostgreSQL did not start; {log} says why, so everything ends.\n" in said
        assert "Traceback" not in said


def test_a_worker_whose_child_is_killed_is_replaced(environ: dict[str, str], folder: Path) -> None:
    servers = {name: environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
    with running(folder, free_port(), **servers) as run:
        old = worker(run)
        assert old is not None
        eventually(lambda: alive(old.pid), PATIENCE)

        max(alive(old.pid), key=lambda child: child.memory_info().rss).kill()

        eventually(lambda: worker(run) not in (None, old), PATIENCE)
        assert is_ready(run)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 160 MB. Mounting one takes root, and rights that some containers do not have."""
    with tempfile.TemporaryDirectory(prefix="knock-test-") as above:
        Path(above).chmod(0o755)
        disk = Path(above) / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "none", disk], capture_output=True)
        if mounted.returncode:
            pytest.skip("no file system can be mounted here")
        try:
            yield disk
        finally:
            subprocess.run(["umount", "-l", disk], check=True)


@AS_ROOT
def test_a_full_disk_ends_nothing_and_the_site_comes_back_by_itself(small_disk: Path) -> None:
    with running(small_disk, free_port()) as run:  # whose output then lies beside it, where there is room
        assert register(run, "alice") == 303
        filler = small_disk / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=1M"], capture_output=True)
        url = psycopg_url(run)
        with pytest.raises(psycopg.Error), psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
        killed = server(run, "postgres")
        if killed is not None:
            killed.kill()  # what a crash while the disk is full does to it
        eventually(lambda: "The embedded PostgreSQL waits: the disk of" in run.output.read_text(), PATIENCE)
        assert run.process.poll() is None

        filler.unlink()

        eventually(lambda: is_ready(run), PATIENCE)
        assert register(run, "bob") == 303


def psycopg_url(run: Run) -> str:
    found = server(run, "postgres")
    assert found is not None
    (sockets,) = (word.partition("=")[2] for word in found.cmdline() if word.startswith("unix_socket_directories="))
    return f"postgresql://knock@/postgres?host={sockets}"


@pytest.fixture
def cluster_url() -> Iterator[str]:
    """A Valkey that belongs to a cluster."""
    port, bus = free_port(), free_port()  # the default for the bus, 10,000 above, may be taken
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--port", str(port), "--cluster-enabled", "yes", "--cluster-port", str(bus), "--dir", folder]
        with subprocess.Popen([embedded._valkey(), *arguments], stdout=subprocess.DEVNULL) as server:
            with redis.Redis(port=port) as client:
                eventually(lambda: answers(client))
            yield f"redis://127.0.0.1:{port}"
            server.terminate()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


WORKER = ["-m", "dramatiq", "web.tasks", "--processes", "1", "--threads", "1"]


@pytest.mark.parametrize("arguments", [["-m", "web"], WORKER, ["-m", "web.server.local"]])
def test_the_address_of_a_cluster_is_refused(
    environ: dict[str, str], folder: Path, cluster_url: str, arguments: list[str]
) -> None:
    assert refused(arguments, {**environ, "DATA_DIR": str(folder), "REDIS_URL": cluster_url}) == (
        "knock: REDIS_URL is the address of a cluster; Knock needs a single Redis or Valkey."
    )


def test_the_worker_refuses_a_bad_setting_too(environ: dict[str, str]) -> None:
    assert refused(WORKER, {**environ, "WEB_PROCESSES": "lots"}) == (
        "knock: WEB_PROCESSES is 'lots', but it must be a whole number, 1 to 64."
    )


def refused(arguments: list[str], environ: dict[str, str]) -> str:
    """What a process says that does not start."""
    chosen = {**os.environ, **environ, "PORT": str(free_port())}
    command = [sys.executable, *arguments]
    ended = subprocess.run(command, cwd=TOP, env=chosen, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    (said,) = [line for line in ended.stderr.splitlines() if line.startswith("knock: ")]
    return said


@AS_ROOT
def test_a_folder_above_data_dir_that_is_closed_stays_closed(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="knock-test-") as name:
        closed = Path(name)

        said = refusal(DATA_DIR=str(closed / "data"), PORT=str(free_port()))

        assert said.startswith(f"knock: {closed} is closed to other users")
        assert said.endswith(f"Set DATA_DIR to another folder, or open the folder: chmod o+x {closed}\n")
        assert said.count("\n") == 1
        assert closed.stat().st_mode & 0o777 == 0o700


@AS_ROOT
def test_what_root_starts_gives_up_its_rights(environ: dict[str, str], folder: Path) -> None:
    servers = {name: environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
    with running(folder, free_port(), **servers) as run:
        serving = [run.process_of("-m", "web"), run.process_of("-m", "dramatiq")]
        eventually(lambda: all(alive(process.pid) for process in serving), PATIENCE)
        children = [child for process in serving for child in process.children(recursive=True)]

        assert {process.username() for process in [*serving, *children]} == {rights.SYSTEM_USER}
        assert (folder / "secret-key").stat().st_mode & 0o777 == 0o600


@AS_ROOT
def test_a_site_that_only_root_can_run_is_run_by_root(
    environ: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "valkey.sock").symlink_to(environ["REDIS_URL"].removeprefix("unix://"))
    chosen = {**os.environ, **environ, "PORT": str(free_port()), "REDIS_URL": f"unix://{tmp_path}/valkey.sock"}

    how = rights.given_up(chosen)

    assert how == {"env": chosen}
    assert "The site runs as root, since the user knock-data could not run it: Error 13" in caplog.text


@AS_ROOT
def test_a_closed_checkout_serves_from_copies_of_its_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers' user could not reach the wheels there."""

    def closed(place: Path, _: str) -> None:
        if "site-packages" in str(place):
            raise CannotStart("closed")

    monkeypatch.setattr(embedded, "demand_way_to", closed)
    embedded._wheel.cache_clear()
    try:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            with (
                embedded.valkey(Path(folder) / "valkey"),
                embedded.postgres(Path(folder) / "postgres") as url,
                psycopg.connect(url.replace("+psycopg", "")) as connection,
            ):
                assert connection.execute("SELECT 1").fetchone() == (1,)
            assert "knock-programs-" in str(embedded._postgres("postgres"))
    finally:
        embedded._wheel.cache_clear()
