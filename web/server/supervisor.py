"""Starts the web processes and replaces those that end.

While a process serves, it writes a byte to its pipe every second. The first byte says that it is ready, silence that
its event loop is stuck, and the end of the pipe that the process has ended.
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys

from web.settings import AFTER_CRASH

log = logging.getLogger(__name__)

BEAT = 1.0
"""Seconds between two bytes."""
STUCK = 8
"""Beats that a process misses until it counts as stuck."""
BUSY = 30
"""The same while it starts or ends, on a machine that is busy with others."""


class WebProcess(subprocess.Popen[bytes]):
    """One web process, as its supervisor sees it."""

    def __init__(self, listening: socket.socket, **environ: str) -> None:
        ours, theirs = os.pipe()
        fds = (listening.fileno(), theirs)
        command = [sys.executable, "-m", "web.server.process", *map(str, fds)]
        super().__init__(command, pass_fds=fds, env={**os.environ, **environ})
        os.close(theirs)
        self._pulse = os.fdopen(ours, "rb", 0)
        self._missed, self._limit = 0, BUSY
        self.ready = asyncio.get_running_loop().create_future()
        """Whether it came to serve."""

    async def watch(self) -> None:
        """Wait until it ends; kill it if it is stuck."""
        pulse = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(pulse), self._pulse)
        while not pulse.at_eof():
            # Waits are counted, not seconds, so that nothing is killed after the whole machine was suspended.
            try:
                if await asyncio.wait_for(pulse.read(64), BEAT):
                    self._beats()
            except TimeoutError:
                self._misses_a_beat()
        await asyncio.to_thread(self.wait)
        if not self.ready.done():
            self.ready.set_result(False)

    def _beats(self) -> None:
        self._missed = 0
        if not self.ready.done():
            self.ready.set_result(True)
            self._limit = STUCK

    def _misses_a_beat(self) -> None:
        self._missed += 1
        if self._missed == self._limit:
            log.critical("Web process %d gave no sign of life for %d seconds and is killed", self.pid, self._limit)
            self.send_signal(signal.SIGABRT)  # prints where it is stuck
        elif self._missed > self._limit:
            self.kill()

    def leave(self) -> None:
        self._missed, self._limit = 0, BUSY
        self.terminate()


class Supervisor:
    """Keeps `count` web processes on one socket."""

    def __init__(self, count: int, listening: socket.socket) -> None:
        self._count = count
        self._listening = listening
        self._alive: set[WebProcess] = set()
        self._serving: set[WebProcess] = set()
        """Those that are replaced when they end."""
        self._exit_code: int | None = None
        self._tasks = asyncio.TaskGroup()

    async def run(self) -> int:
        """Serve until SIGINT or SIGTERM; SIGHUP replaces every process. The exit code, 1 if a process cannot start."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, lambda: self._tasks.create_task(self._restart()))
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, 0)
        async with self._tasks:
            self._serving = {self._start() for _ in range(self._count)}
        return self._exit_code or 0

    def _start(self, **environ: str) -> WebProcess:
        process = WebProcess(self._listening, **environ)
        self._alive.add(process)
        self._tasks.create_task(self._attend(process))
        return process

    async def _attend(self, process: WebProcess) -> None:
        await process.watch()
        self._alive.remove(process)
        if process not in self._serving:
            return
        self._serving.remove(process)
        if process.returncode > 0 and not process.ready.result():
            log.critical("A web process could not start, so the site ends")
            self._stop(1)
        else:
            log.error("Web process %d ended (exit code %d) and is replaced", process.pid, process.returncode)
            # It may have acknowledged messages that the other processes never heard of.
            self._serving.add(self._start(**{AFTER_CRASH: "yes"}))

    async def _restart(self) -> None:
        """Replace every process, once all the new ones serve; if one cannot, the old ones stay.

        The old ones end together. One by one, the pages of the first would connect to one that ends next.
        """
        if self._exit_code is not None:
            return
        new = {self._start() for _ in range(self._count)}
        ready = await asyncio.gather(*(process.ready for process in new))
        if all(ready) and new <= self._alive:
            leaving, self._serving = self._serving, new
        else:
            log.error("A new web process could not start, so the old ones stay")
            leaving = new & self._alive
        for process in leaving:
            process.leave()

    def _stop(self, exit_code: int) -> None:
        if self._exit_code is None:
            self._exit_code = exit_code
            self._serving.clear()
            for process in self._alive:
                process.leave()
