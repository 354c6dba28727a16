"""The supervisor of the web processes: what dies is replaced, soon, whenever it dies."""

import signal
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests import site as sites
from tests.site import eventually

KILLED, RESTART = 1006, 1012
"""The close codes of a process that was killed, and of one that has its pages come back."""


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
        time.sleep(1.5)  # by now the supervisor asks it whether it is well
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
        broken.write_text(f"open({str(tried)!r}, 'w').close(); raise SystemExit(1)")  # as each Python starts
        with alice.socket() as tab:
            site.process.send_signal(signal.SIGHUP)
            eventually(tried.exists)

            assert tab.hears_nothing_for(1)

        assert _web(supervisor) == old
        broken.unlink()
        old[0].kill()
        eventually(lambda: len(_web(supervisor)) == 2 and old[0] not in _web(supervisor))


def _web(supervisor: psutil.Process) -> list[psutil.Process]:
    """The web processes that are alive."""
    found = [child for child in supervisor.children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in found if any("spawn_main" in word for word in child.cmdline())]
