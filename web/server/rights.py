"""What root gives up: on a machine without containers, everything that serves runs as a system user."""

import compileall
import logging
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from web.server import CannotStart

log = logging.getLogger(__name__)

SYSTEM_USER = "knock-data"
"""The embedded servers and the site run as this user when root starts them: PostgreSQL refuses to run as root."""
TOP = Path(__file__).resolve().parent.parent.parent


@cache
def system_user() -> pwd.struct_passwd | None:
    """The user, made if missing; None unless this process is root's. Raises CannotStart."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    make = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    try:
        subprocess.run(make, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise CannotStart(f"PostgreSQL does not run as root, and the user {SYSTEM_USER} could not be made.") from None
    return pwd.getpwnam(SYSTEM_USER)


def as_system_user() -> dict[str, Any]:
    """Options of subprocess.Popen."""
    user = system_user()
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def demand_way_to(place: Path, other_way: str) -> None:
    """Raises CannotStart if a folder above `place` is closed to the system user. It is not ours to open."""
    user = system_user()
    for above in place.resolve().parents if user else ():
        status = above.stat()
        if user and status.st_uid != user.pw_uid and not status.st_mode & stat.S_IXOTH:
            raise CannotStart(
                f"{above} is closed to other users, so {SYSTEM_USER}, as which root runs PostgreSQL and Valkey, "
                f"cannot reach {place}. {other_way}, or open the folder: chmod o+x {above}"
            )


def given_up(environ: Mapping[str, str]) -> dict[str, Any]:
    """Options of subprocess.Popen for a process of the site with this environment: as the system user if that works."""
    user = system_user()
    if user is None:
        return {"env": environ}
    # libpq looks for its files in HOME, and fails if it may not.
    options = {"env": {**environ, "HOME": user.pw_dir}, **as_system_user()}
    compileall.compile_dir(TOP / "web", quiet=2)  # that user could not keep what it compiles
    probe = [sys.executable, "-m", "web.server.probe"]
    try:
        subprocess.run(probe, cwd=TOP, check=True, capture_output=True, text=True, **options)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
        log.warning("The site runs as root, since the user %s could not run it: %s", SYSTEM_USER, reason)
        return {"env": environ}
    return options
