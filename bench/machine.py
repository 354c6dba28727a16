"""The CPU and memory of each part, from the operating system's counters."""

import os
import platform
import resource
import time
from dataclasses import dataclass, field

import psutil

OPEN_FILES = 12_000
"""Enough for 10,000 sockets, in the server and in the load."""


@dataclass
class Part:
    """A process and its children: the web processes, PostgreSQL, the load."""

    pid: int

    @property
    def processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.pid)
        return [parent, *parent.children(recursive=True)]

    @property
    def cpu_seconds(self) -> float:
        total = 0.0
        for process in self.processes:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return sum(process.memory_info().rss for process in self.processes)


@dataclass
class Meter:
    """CPU seconds of each part between start and stop."""

    parts: dict[str, Part]
    _before: dict[str, float] = field(default_factory=dict)
    _began: float = 0.0

    def start(self) -> None:
        self._before = {name: part.cpu_seconds for name, part in self.parts.items()}
        self._began = time.perf_counter()

    def stop(self) -> dict[str, float]:
        """CPU seconds by part; `elapsed` is wall-clock time."""
        spent = {name: part.cpu_seconds - self._before[name] for name, part in self.parts.items()}
        return {**spent, "elapsed": time.perf_counter() - self._began}


class Neighbours:
    """CPU time that other machines on the same host take from this one (steal), since this was made."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    @property
    def share(self) -> float:
        """0 to 1; 0 if the operating system does not count it."""
        now = psutil.cpu_times()
        passed = sum(now) - sum(self._before)
        return (getattr(now, "steal", 0.0) - getattr(self._before, "steal", 0.0)) / passed if passed else 0.0


def allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def description() -> str:
    """The machine and its load, for the heading of the figures."""
    load = os.getloadavg()[0]
    memory = psutil.virtual_memory().total / 2**30
    system = f"{os.uname().sysname} {os.uname().machine}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {system}, load before {load:.1f}"
