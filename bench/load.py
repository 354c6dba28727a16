"""Starts the process that makes the load, and gives it jobs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.machine import Part

TOP = Path(__file__).parent.parent


class LoadFailed(Exception):
    """A job failed; the text says why."""


class Load:
    """A load process, which does one job at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.part = Part(process.pid)

    def do(self, job: str, **arguments: Any) -> dict[str, Any]:
        """Do a job and return its answer. Raises LoadFailed."""
        self.begin(job, **arguments)
        return self.end()

    def begin(self, job: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": job, **arguments}) + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise LoadFailed(answer["error"])
        return answer


@contextmanager
def running(module: str = "bench.generator") -> Iterator[Load]:
    """A separate process, so that the load never waits for the scenario."""
    process = subprocess.Popen(
        [sys.executable, "-m", module], cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Load(process)
    finally:
        process.kill()
        process.communicate()
