"""Keeps a program running: starts it again when it ends by itself."""

import logging
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Event, Thread
from typing import Self

from web.server import CannotStart

log = logging.getLogger(__name__)

TRIES = 5
"""Ends and failed starts in a row, until the program is given up."""
STEADY = 10.0
"""Seconds that a program has to run for the next end to count as the first."""
FIRST_PAUSE = 1.0
"""Seconds until the next start; doubled each time."""


class Keeper(Thread):
    """Runs a program during its `with` block, which raises CannotStart if the first start does.

    `start` makes a block in which the program runs, ready for use; the program is ended with it. `obstacle` says why
    another start has to wait, if so. `give_up` is told, in this thread, that the program will not run any more.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], AbstractContextManager[subprocess.Popen[bytes]]],
        give_up: Callable[[str], None],
        *,
        tries: int = TRIES,
        obstacle: Callable[[], str | None] = lambda: None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._start_program, self._give_up, self._obstacle = start, give_up, obstacle
        self._tries = tries
        self._tried, self._ending = Event(), Event()
        self._refusal: CannotStart | None = None

    def __enter__(self) -> Self:
        self.start()
        self._tried.wait()
        if self._refusal:
            raise self._refusal
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self.join()

    def end(self) -> None:
        """Let it begin to end the program; the end of the block waits for that."""
        self._ending.set()

    def run(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            reason = self._run_once()
            if self._ending.is_set() or self._refusal:
                return
            failures = 1 if time.monotonic() - began > STEADY else failures + 1
            if failures >= self._tries:
                self._give_up(reason)
                return
            pause = FIRST_PAUSE * 2 ** (failures - 1)
            log.error("%s; it is started again in %d s", reason, pause)
            if self._wait(pause):
                failures = 0  # a full disk is no fault of the program

    def _run_once(self) -> str:
        """Run it until it ends or is to end. How it ended."""
        try:
            with self._start_program() as program:
                self._tried.set()
                while program.poll() is None and not self._ending.wait(0.1):
                    pass
                code = program.returncode
            return f"{self.name} ended by itself (exit code {code})"
        except CannotStart as error:
            if not self._tried.is_set():
                self._refusal = error
                self._tried.set()
            return str(error).rstrip(".")

    def _wait(self, pause: float) -> bool:
        """Wait until it may be started, or is to end. Whether something was in the way."""
        said = False
        while not self._ending.wait(pause) and (obstacle := self._obstacle()):
            if not said:
                log.error("%s waits: %s", self.name, obstacle)
            said = True
        return said
