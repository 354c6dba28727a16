"""The supervisor of the web processes: what dies is replaced, soon, whenever it dies."""

import time

import psutil

from tests import site as sites
from tests.site import eventually


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


def _web(supervisor: psutil.Process) -> list[psutil.Process]:
    """The web processes that are alive."""
    found = [child for child in supervisor.children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in found if any("spawn_main" in word for word in child.cmdline())]
