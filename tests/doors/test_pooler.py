"""The site behind the real PgBouncer, which lends a connection for a transaction only."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from tests import site as sites
from tests.site import eventually, free_port
from web.server import rights

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")

CONFIGURATION = """
[databases]
pooled = host={host} dbname=pooled user=knock
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
logfile = {folder}/log
"""


@pytest.fixture
def pooled(environ: dict[str, str], postgres: psycopg.Connection) -> Iterator[dict[str, str]]:
    """The environment of a site at a pooler with three connections, and tables of its own."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed; scripts/test installs it where it can")
    postgres.execute("CREATE DATABASE pooled")
    port = free_port()
    with TemporaryDirectory(prefix="knock-pgbouncer-") as name:
        folder = Path(name)
        host = environ["DATABASE_URL"].partition("host=")[2]
        (folder / "ini").write_text(CONFIGURATION.format(host=host, port=port, folder=folder))
        if user := rights.system_user():  # PgBouncer does not run as root
            os.chown(folder, user.pw_uid, user.pw_gid)
        with subprocess.Popen([PGBOUNCER, "-q", str(folder / "ini")], **rights.as_system_user()) as pgbouncer:
            url = f"postgresql+psycopg://knock@127.0.0.1:{port}/pooled"
            eventually(lambda: _answers(url))
            yield {**os.environ, **environ, "DATABASE_URL": url, "DATABASE_POOLER": "on"}
            pgbouncer.terminate()
    postgres.execute("DROP DATABASE pooled WITH (FORCE)")


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url.replace("+psycopg", ""), connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def test_people_write_to_each_other_through_a_pooler(pooled: dict[str, str]) -> None:
    sites.migrate(pooled)
    sites.migrate(pooled)  # it does not wait for a lock that the first one left

    with sites.running(pooled) as site:
        alice, bob = site.person("alice"), site.person("bob")
        for number in range(20):
            assert alice.post("bob", f"message {number}").status_code == 303
            assert len(bob.page("/chat/alice").bodies) == number + 1
            assert bob.page("/").chats == ["alice"]

    with psycopg.connect(pooled["DATABASE_URL"].replace("+psycopg", ""), prepare_threshold=None) as connection:
        # Nobody left a setting behind for whoever gets the connection next.
        assert connection.execute("SHOW enable_seqscan").fetchone() == ("on",)
