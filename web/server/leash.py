"""Commands that run when this process ends, however it ends."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def at_end(*command: str | Path, **options: Any) -> Iterator[None]:
    """Runs `command` at the end of the block, and also if this process is killed inside it.

    `options` are those of subprocess.Popen.
    """
    # The shell reads from a pipe that only we hold open, so it goes on when we close it or die.
    with subprocess.Popen(
        ["sh", "-c", 'read _; exec "$@"', "sh", *command],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **options,
    ):
        yield
