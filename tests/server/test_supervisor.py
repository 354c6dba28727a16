"""The supervisor of the web processes: one that dies is replaced soon, whenever it dies."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests import site as sites
from tests.site import TOP, eventually, free_port

KILLED, RESTART = 1006, 1012
"""The close codes of a process that was killed, and of one that has its pages come back."""


BROKEN = """
import sys
if "web.server.process" in sys.orig_argv:
    open({tried!r}, "w").close()
    raise SystemExit(1)
"""
"""Read by Python as it starts: no web process gets any further."""
STUCK = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(600))
"""
"""Read by Python as it starts: a web process that is sent SIGUSR1 blocks its event loop."""


def test_a_process_that_dies_while_it_starts_keeps_no_other_from_being_replaced(environ: dict[str, str]) -> None:
    with sites.running(environ) as site:
        assert site.process is not None
        supervisor = psutil.Process(site.process.pid)
        old = _web(supervisor)
        assert len(old) == 2

        old[0].kill()
        eventually(lambda: set(_web(supervisor)) - set(old))
        (starting,) = set(_web(supervisor)) - set(old)
        starting.suspend()  # on a busy machine it takes its time
        time.sleep(1.5)
        starting.kill()
        old[1].kill()

        eventually(lambda: len(_web(supervisor)) == 2 and not {*old, starting} & set(_web(supervisor)))
        eventually(lambda: site.client().get("/livez").status_code == 200)


def test_the_pages_of_the_other_processes_catch_up_with_what_one_that_died_did_not_tell_them(
    environ: dict[str, str],
) -> None:
    with sites.running(environ) as site, ExitStack() as stack:
        alice = site.person("alice")
        one, other = site.workers
        other.suspend()
        lost = stack.enter_context(alice.socket())
        other.resume()
        one.suspend()
        kept = stack.enter_context(alice.socket())

        one.kill()

        assert lost.close_code() == KILLED
        assert kept.close_code() == RESTART


def test_the_old_processes_stay_when_new_ones_cannot_start(environ: dict[str, str], tmp_path: Path) -> None:
    with sites.running(environ, PYTHONPATH=str(tmp_path)) as site:
        assert site.process is not None
        supervisor = psutil.Process(site.process.pid)
        alice = site.person("alice")
        old = _web(supervisor)
        broken, tried = tmp_path / "sitecustomize.py", tmp_path / "tried"
        broken.write_text(BROKEN.format(tried=str(tried)))
        with alice.socket() as tab:
            site.process.send_signal(signal.SIGHUP)
            eventually(tried.exists)

            assert tab.hears_nothing_for(1)

        assert _web(supervisor) == old
        broken.unlink()
        old[0].kill()
        eventually(lambda: len(_web(supervisor)) == 2 and old[0] not in _web(supervisor))


def test_new_processes_take_over_when_told_to(environ: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    with sites.running(environ) as site:
        assert site.process is not None
        supervisor = psutil.Process(site.process.pid)
        alice = site.person("alice")
        old = _web(supervisor)
        with alice.socket() as tab:
            site.process.send_signal(signal.SIGHUP)

            assert tab.close_code() == RESTART
        eventually(lambda: len(_web(supervisor)) == 2 and not set(_web(supervisor)) & set(old))
        assert alice.page("/").status == 200
    assert "is replaced" not in capfd.readouterr().err


def test_a_process_whose_event_loop_is_stuck_says_where_and_is_replaced(
    environ: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(STUCK)
    with sites.running(environ, PYTHONPATH=str(tmp_path), WEB_PROCESSES="1") as site:
        assert site.process is not None
        supervisor = psutil.Process(site.process.pid)
        (stuck,) = _web(supervisor)
        stuck.send_signal(signal.SIGUSR1)

        eventually(lambda: stuck not in _web(supervisor), patience=60)
        eventually(lambda: _web(supervisor) and site.client().get("/livez").status_code == 200)
    said = capfd.readouterr().err
    assert f"Web process {stuck.pid} gave no sign of life for 8 seconds and is killed" in said
    assert "sitecustomize.py" in said


def test_a_site_that_cannot_start_ends(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN.format(tried=str(tmp_path / "tried")))

    ended = subprocess.run(
        [sys.executable, "-m", "web"],
        cwd=TOP,
        env={**os.environ, **environ, "PORT": str(free_port()), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert ended.returncode == 1
    assert "A web process could not start, so the site ends" in ended.stderr


def _web(supervisor: psutil.Process) -> list[psutil.Process]:
    """The web processes that are alive."""
    found = []
    for child in supervisor.children():
        with suppress(psutil.Error):  # it has just ended
            if child.status() != psutil.STATUS_ZOMBIE and "web.server.process" in child.cmdline():
                found.append(child)
    return found
