"""The loops of a process: each goes on after an error and ends with the process, whatever the libraries in it do."""

import asyncio

import psycopg
import pytest

from tests.site import eventually
from tests.telegram.fixtures import PATIENCE, Knock
from web import loops


def test_a_loop_whose_cancellation_was_swallowed_is_cancelled_again() -> None:
    cancelled = 0

    async def stubborn() -> None:
        nonlocal cancelled
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled += 1
                if cancelled == 2:
                    raise

    async def process() -> None:
        async with loops.running(stubborn):
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(process(), 10))

    assert cancelled == 2


def test_a_loop_that_fails_is_logged_and_started_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "PAUSE", 0)
    started = 0

    async def process() -> None:
        third_time = asyncio.Event()

        async def failing() -> None:
            nonlocal started
            started += 1
            if started == 3:
                third_time.set()
                await asyncio.sleep(60)
            raise ValueError(f"failure {started}")

        async with loops.running(failing):
            await third_time.wait()

    asyncio.run(asyncio.wait_for(process(), 10))

    assert started == 3
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["failure 1", "failure 2"]


def test_the_worker_sweeps_on_after_an_error(
    knock: Knock, postgres: psycopg.Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    alice = knock.person("alice")
    bob, _ = knock.absent("bob")
    knock.worker.kill()
    alice.post("bob", "hello")
    postgres.execute("UPDATE notifications SET due_at = now()")
    postgres.execute("ALTER TABLE notifications RENAME TO away")
    said = ""

    def is_failing() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "failed and is started again" in said

    try:
        knock.worker.start()
        eventually(is_failing, PATIENCE)
    finally:
        postgres.execute("ALTER TABLE away RENAME TO notifications")

    assert "Traceback" in said
    assert knock.settled(bob) == ["sent"]
