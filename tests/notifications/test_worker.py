"""Nothing that is due is lost, whatever breaks between the commit and Telegram, and nothing is told twice for long."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import redis

from tests import site as sites
from tests.site import eventually, free_port
from tests.telegram.fixtures import PATIENCE, Knock
from web import tasks


def test_what_a_killed_worker_left_is_told_within_a_minute(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    knock.telegram.order({"hang": 60}, chat_id=chat)
    alice.post("bob", "hello")
    eventually(lambda: knock.telegram.called(chat_id=chat), PATIENCE)

    knock.worker.kill()
    killed_at = time.time()
    assert knock.rows(bob) == ["sending"]
    knock.worker.start()

    assert knock.settled(bob, patience=60) == ["sent"]
    assert knock.telegram.called(chat_id=chat)[-1].at - killed_at < 60
    assert len(knock.telegram.called(chat_id=chat)) == 2


def test_a_wiped_valkey_loses_no_notification(knock: Knock, valkey: redis.Redis) -> None:
    alice = knock.person("alice")
    absent = [knock.absent(f"absent-{number}") for number in range(12)]
    knock.worker.stop()
    for person, _ in absent:
        alice.post(person.username, "hello")
    valkey.flushall()
    assert all(knock.rows(person) == ["pending"] for person, _ in absent)

    knock.worker.start()

    for person, chat in absent:
        assert knock.settled(person, patience=60) == ["sent"]
        assert len(knock.telegram.called(chat_id=chat)) == 1


def test_a_task_that_comes_twenty_times_is_told_once(knock: Knock, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    knock.worker.stop()
    alice.post("bob", "hello")
    (notification_id,) = knock.rows(bob, "notifications.id")
    _with_redis(monkeypatch, knock.environ["REDIS_URL"])
    tasks.enqueue([notification_id] * 20)

    knock.worker.start()

    assert knock.settled(bob, patience=60) == ["sent"]
    time.sleep(1)
    assert len(knock.telegram.called(chat_id=chat)) == 1
    assert knock.rows(bob, "state, attempts") == [("sent", 1)]


def test_enqueueing_into_no_redis_fails_soon_and_then_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_redis(monkeypatch, f"redis://127.0.0.1:{free_port()}")
    started = time.monotonic()
    with pytest.raises((redis.RedisError, OSError)):
        tasks.enqueue(range(100))
    assert time.monotonic() - started < 2

    started = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        assert all(isinstance(error, OSError) for error in threads.map(_failure, [[1]] * 8))
    assert time.monotonic() - started < 0.2


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


def test_what_was_done_with_a_month_ago_is_forgotten_but_not_what_was_told_last(
    knock: Knock, postgres: psycopg.Connection
) -> None:
    alice = knock.person("alice")
    bob, _ = knock.absent("bob")
    alice.post("bob", "hello")
    assert knock.settled(bob) == ["sent"]
    knock.worker.stop()
    postgres.execute("""
        INSERT INTO notifications (user_id, conversation_id, first_seq, state, problem, card_id, due_at)
        SELECT user_id, conversation_id, 1, old.state, old.problem, card, now() - days * interval '1 day'
        FROM notifications, (VALUES
            ('cancelled', 'old', NULL, 31), ('failed', 'old', NULL, 31), ('sent', 'old', 5, 31),
            ('cancelled', 'young', NULL, 29), ('sent', 'told last', 6, 40)
        ) AS old (state, problem, card, days)
    """)

    knock.worker.start()

    eventually(lambda: "old" not in knock.rows(bob, "problem"), PATIENCE)
    assert knock.rows(bob, "coalesce(problem, 'just told')") == ["just told", "told last", "young"]


def test_the_worker_ends_cleanly_when_it_is_told_to(knock: Knock) -> None:
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
