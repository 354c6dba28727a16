"""Whatever breaks between the commit and Telegram, no notification is lost."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import redis

from tests import site as sites
from tests.chat.test_search import seqs
from tests.site import eventually, free_port
from tests.telegram.bot_api import TOKEN, USERNAME
from tests.telegram.fixtures import PATIENCE, Knock
from web import tasks


def test_what_a_killed_worker_left_is_sent_within_a_minute(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    knock.telegram.order({"hang": 60}, chat_id=chat)
    alice.post("bob", "hello")
    eventually(lambda: knock.telegram.called(chat_id=chat), PATIENCE)

    knock.worker.kill()
    assert knock.rows(bob) == ["sending"]
    (lease,) = knock.rows(bob, "extract(epoch FROM due_at - now())")
    assert lease < 30
    knock.hurry()  # the lease ends
    knock.worker.start()

    assert knock.settled(bob) == ["sent"]
    assert len(knock.telegram.called(chat_id=chat)) == 2


def test_a_wiped_valkey_loses_no_notification_and_no_name_of_the_bot(knock: Knock, valkey: redis.Redis) -> None:
    alice = knock.person("alice")
    absent = [knock.absent(f"absent-{number}") for number in range(4)]
    knock.worker.stop()
    for person, _ in absent:
        alice.post(person.username, "hello")
    valkey.flushall()
    assert all(knock.rows(person) == ["pending"] for person, _ in absent)

    knock.worker.start()

    for person, chat in absent:
        assert knock.settled(person) == ["sent"]
        assert len(knock.telegram.called(chat_id=chat)) == 1
    eventually(lambda: valkey.get(f"telegram-name:{TOKEN.partition(':')[0]}") == USERNAME, PATIENCE)


def test_enqueueing_into_no_redis_fails_soon_and_then_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_redis(monkeypatch, f"redis://127.0.0.1:{free_port()}")
    monkeypatch.setattr(tasks, "REST_SECONDS", PATIENCE)
    started = time.monotonic()
    with pytest.raises((redis.RedisError, OSError)):
        tasks.enqueue(range(100))
    assert time.monotonic() - started < 2

    with ThreadPoolExecutor(8) as threads:
        for error in threads.map(_failure, [[1]] * 8):
            assert str(error) == "Redis did not answer a moment ago"


def test_a_worker_without_telegram_imports_no_aiogram(environ: dict[str, str]) -> None:
    script = """
import asyncio, sys
from web.tasks import _parts

async def open_and_close():
    await _parts._open()
    await _parts._stack.aclose()

asyncio.run(open_and_close())
sys.exit('aiogram' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=sites.TOP, env={**os.environ, **environ})

    assert done.returncode == 0


def test_the_web_processes_import_no_aiogram_and_need_no_environment_for_it() -> None:
    script = "import sys, web.app, web.tasks; sys.exit('aiogram' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], cwd=sites.TOP, env={"PATH": ""})

    assert done.returncode == 0


def test_a_lost_postgresql_is_waited_for(knock: Knock, postgres: psycopg.Connection) -> None:
    alice = knock.person("alice")
    bob, _ = knock.absent("bob")

    for _ in range(3):
        postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        alice.post("bob", "hello")
        time.sleep(0.3)

    assert "failed" not in knock.settled(bob, patience=40)
    assert "sent" in knock.rows(bob)


def test_the_worker_ends_cleanly_on_sigterm(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, _ = knock.absent("bob")
    alice.post("bob", "hello")
    assert knock.settled(bob) == ["sent"]
    started = time.monotonic()

    assert knock.worker.stop() == 0
    assert time.monotonic() - started < 10


def _with_redis(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name, value in {"REDIS_URL": url, "DATABASE_URL": "postgresql://nowhere", "SECRET_KEY": "x" * 32}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tasks, "_resting_until", 0.0)
    tasks._redis.cache_clear()


def _failure(ids: list[int]) -> Exception | None:
    try:
        tasks.enqueue(ids)
    except (redis.RedisError, OSError) as error:
        return error
    return None


def test_messages_are_added_to_the_search_by_the_worker(knock: Knock, postgres: psycopg.Connection) -> None:
    alice, bob, charlie = map(knock.person, ("alice", "bob", "charlie"))
    alice.post("bob", "dinner on friday")
    eventually(lambda: not postgres.execute("SELECT FROM messages WHERE readers IS NULL").fetchall(), 30)
    ids = postgres.execute("SELECT 'user ' || id FROM users WHERE username <> 'charlie' ORDER BY id").fetchall()
    assert postgres.execute("SELECT readers FROM messages").fetchone() == ([name for (name,) in ids],)
    assert seqs(bob, "dinner") == [1]
    assert "around=" not in charlie.http.get("/search?q=dinner").text
