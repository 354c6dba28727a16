"""The cast, alice, bob, and charlie the outsider, on a real site: two web processes, PostgreSQL and Valkey.

`scripts/test` runs several workers of pytest-xdist. Each is a process with a site and embedded servers of its own.
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
import redis
from xdist.scheduler import LoadScopeScheduling

from tests import leaks
from tests import site as sites
from tests.site import Person, Site
from web.server import embedded, rights

pytest_plugins = ("tests.telegram.fixtures", "tests.notifications.scene", "tests.notifications.office")

TOGETHER = {
    "tests/browser/": "Chromium",
    "tests/faults/": "parts to break",
    "tests/notifications/": "the worker and the bot",
    "tests/doors/test_telegram.py": "the worker and the bot",
    "tests/telegram/": "the worker and the bot",
}
"""Folders whose tests share what takes seconds to start: all with the same one run in the same worker."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Gives what belongs together to one worker of pytest-xdist, and every other test to the next that is free."""

    def _split_scope(self, nodeid: str) -> str:
        return next((shared for folder, shared in TOGETHER.items() if nodeid.startswith(folder)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    return Scheduling(config, log)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        rights.system_user()  # workers that made it at the same moment would fail


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fails a test if a process of it wrote a secret into its log, which pytest captured."""
    report = yield
    if report.when == "teardown":
        log = "".join(text for name, text in report.sections if name.startswith(("Captured stdout", "Captured stderr")))
        if report.passed and (leaked := leaks.found(log)):
            report.outcome = "failed"
            report.longrepr = "The log holds a secret:\n" + "\n".join(leaked)
        leaks.forget()
    return report


@pytest.fixture(scope="session")
def data() -> Iterator[Path]:
    """A folder for the embedded servers.

    Not one of pytest's: each run of pytest closes the folder above those to other users, and root's PostgreSQL runs as
    one.
    """
    with TemporaryDirectory(prefix="knock-tests-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def environ(data: Path) -> Iterator[dict[str, str]]:
    """The environment of every process that a test starts, with embedded servers of this worker's own."""
    with ExitStack() as stack:
        chosen = {
            "DATABASE_URL": stack.enter_context(embedded.postgres(data / "postgres")),
            "REDIS_URL": stack.enter_context(embedded.valkey(data / "valkey")),
            "SECRET_KEY": "the-key-of-the-tests-long-enough-for-them",
            "DATA_DIR": str(data),
            "WEB_PROCESSES": "2",
            "SOCKET_RATE": "0",
            "METRICS_TOKEN": sites.METRICS_TOKEN,
            "LIMITS": "off",  # everybody here comes from one address
        }
        # Nobody switches this machine off in the middle of a test, so nothing has to wait for the disk.
        with psycopg.connect(chosen["DATABASE_URL"].replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        sites.migrate(chosen)
        yield chosen


@pytest.fixture
def postgres(environ: dict[str, str]) -> Iterator[psycopg.Connection]:
    """PostgreSQL as a test looks into it."""
    url = environ["DATABASE_URL"].replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def valkey(environ: dict[str, str]) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(environ["REDIS_URL"], decode_responses=True) as client:
        yield client


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> None:
    """Remove what the test before left: rows, cached lists, counted attempts."""
    if "environ" not in request.fixturenames:
        return
    postgres = request.getfixturevalue("postgres")
    for _ in range(10):
        # The Telegram worker may still be busy with the test before.
        with suppress(psycopg.errors.DeadlockDetected):
            postgres.execute(f"TRUNCATE {sites.TABLES}")
            break
    request.getfixturevalue("valkey").flushdb()


@pytest.fixture(scope="session")
def shared_site(environ: dict[str, str]) -> Iterator[Site]:
    with sites.running(environ) as site:
        yield site


@pytest.fixture
def site(shared_site: Site, clean: None) -> Iterator[Site]:
    """A site of two processes, with nobody in it."""
    yield shared_site
    shared_site.close_clients()


@pytest.fixture
def alice(site: Site) -> Person:
    return site.person("alice")


@pytest.fixture
def bob(site: Site) -> Person:
    return site.person("bob")


@pytest.fixture
def charlie(site: Site) -> Person:
    """The outsider."""
    return site.person("charlie")
