"""The environment: what is unset has a default, what is wrong refuses to start and names itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from redis.connection import parse_url
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from tests import site as sites
from tests.site import TOP, Site, free_port
from web import settings

GOOD = {"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://", "SECRET_KEY": "x" * 32}


def test_what_is_unset_has_its_default() -> None:
    chosen = settings.read(GOOD)

    assert (chosen.host, chosen.port, chosen.web_processes) == ("127.0.0.1", 8000, 1)
    assert (chosen.session_max_age, chosen.socket_rate, chosen.log_format) == (86400, 20, "console")
    assert chosen.telegram_bot_token is None
    assert chosen.telegram_api_url == "https://api.telegram.org"
    assert chosen.site_url == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("chat.local", "http://chat.local:8000"),
    ],
)
def test_the_address_follows_the_host(host: str, address: str) -> None:
    chosen = settings.read({**GOOD, "HOST": host})

    assert chosen.address == address
    assert chosen.site_url == address


def test_the_address_on_this_machine_is_not_the_one_for_people() -> None:
    chosen = settings.read({**GOOD, "SITE_URL": "https://chat.example/"})

    assert chosen.address == "http://127.0.0.1:8000"
    assert chosen.site_url == "https://chat.example"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("WEB_PROCESSES", "0"),
        ("WEB_PROCESSES", "two"),
        ("SESSION_MAX_AGE", "-1"),
        ("SOCKET_RATE", "-1"),
        ("SOCKET_RATE", "nan"),
        ("LOG_FORMAT", "xml"),
        ("WEB_PROCESSES", "lots"),
        ("TELEGRAM_API_URL", "api.telegram.org"),
        ("TELEGRAM_API_URL", "http://"),
        ("TELEGRAM_API_URL", "http://[telegram"),
        ("TELEGRAM_BOT_TOKEN", "no-token"),
        ("DATABASE_URL", "postgresql://knock@host:port/knock"),
        ("SITE_URL", "chat.example.org"),
        ("DATABASE_URL", "mysql://localhost/knock"),
        ("DATABASE_URL", "postgresql://knock@one:5432,two:port/knock"),
        ("DATABASE_URL", ""),
        ("REDIS_URL", "localhost"),
        ("REDIS_URL", ""),
        ("SECRET_KEY", "short"),
        ("SECRET_KEY_FALLBACKS", "short"),
    ],
)
def test_what_is_wrong_names_itself(name: str, value: str) -> None:
    with pytest.raises(settings.BadSetting, match=name):
        settings.read({**GOOD, name: value})


def test_several_hosts_of_one_database_are_tried_in_turn() -> None:
    url = "postgresql://me:s%40cret@one:1,two:2/knock?target_session_attrs=read-write"

    chosen = make_url(settings.read({**GOOD, "DATABASE_URL": url}).database_url)

    _, words = PGDialect_psycopg().create_connect_args(chosen)  # type: ignore[no-untyped-call]
    assert (words["host"], words["port"], words["password"]) == ("one,two", "1,2", "s@cret")
    assert words["target_session_attrs"] == "read-write"


def test_the_password_of_redis_may_contain_any_characters() -> None:
    environ = {**GOOD, "REDIS_PASSWORD": "p@s:s/w%41 #?"}

    url = settings.read({**environ, "REDIS_URL": "redis://default@valkey/1"}).redis_url

    assert parse_url(url) == {  # type: ignore[no-untyped-call]
        "host": "valkey",
        "db": 1,
        "username": "default",
        "password": "p@s:s/w%41 #?",
    }
    assert settings.read({**environ, "REDIS_URL": "redis://mine"}).redis_url == "redis://mine"


def test_a_secret_is_made_once_and_kept_where_nobody_else_reads_it(tmp_path: Path) -> None:
    environ = {**GOOD, "SECRET_KEY": "", "DATA_DIR": str(tmp_path / "data")}

    first, second = settings.read(environ), settings.read(environ)

    assert first.secret_keys == second.secret_keys
    assert len(first.secret_keys[0]) >= 32
    assert (tmp_path / "data" / "secret-key").stat().st_mode & 0o077 == 0


def test_where_nothing_is_kept_a_secret_is_demanded() -> None:
    with pytest.raises(settings.BadSetting, match="SECRET_KEY"):
        settings.read({**GOOD, "SECRET_KEY": "", "DATA_DIR": ""})


def test_a_bad_value_is_one_sentence_and_an_exit_code() -> None:
    ended = start({**GOOD, "PORT": "http"})

    assert ended.returncode == 2
    assert ended.stderr == "knock: PORT is 'http', but it must be a port, 1 to 65535.\n"


def test_a_port_in_use_is_one_sentence_and_an_exit_code(site: Site) -> None:
    ended = start({**site.environ, "WEB_PROCESSES": "1"})

    assert ended.returncode == 1
    port = site.environ["PORT"]
    expected = f"knock: cannot serve on 127.0.0.1 port {port}: Address already in use. HOST and PORT choose where.\n"
    assert ended.stderr == expected


def test_logs_can_be_json(environ: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "web"],
        cwd=TOP,
        env={**os.environ, **environ, "REDIS_URL": "redis://127.0.0.1:1", "LOG_FORMAT": "json",
             "WEB_PROCESSES": "1", "PORT": str(free_port())},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        line = process.stderr.readline()
        process.terminate()

    assert line.startswith("{")
    assert '"levelname": "WARNING"' in line


def start(environ: dict[str, str] | object) -> subprocess.CompletedProcess[str]:
    assert isinstance(environ, dict)
    return subprocess.run(
        [sys.executable, "-m", "web"],
        cwd=TOP,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_when_the_supervisor_is_killed_its_processes_end_and_the_port_is_free_again(
    environ: dict[str, str], clean: None
) -> None:
    with sites.running(environ) as site:
        orphans = site.workers
        assert len(orphans) == 2

        site.stop(signal.SIGKILL)
        site.start()

        assert psutil.wait_procs(orphans, timeout=10)[1] == []
        assert site.client().get("/readyz").status_code == 200
