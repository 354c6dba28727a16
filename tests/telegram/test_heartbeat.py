"""Whether the worker and the bot are well, and their figures, each on a port of its own."""

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import httpx2 as httpx
import pytest
import redis.asyncio

from tests.site import METRICS_TOKEN, eventually, free_port
from tests.telegram.fixtures import PATIENCE, Knock
from web import settings
from web.data import postgres
from web.notifications import sweep
from web.server import CannotStart, heartbeat

WORKER, BOT = 0, 1


@pytest.fixture
def own_port(environ: dict[str, str]) -> Iterator[int]:
    """The port of a heartbeat in this process."""
    port = free_port()
    with heartbeat.serving(settings.read({**environ, "METRICS_PORT": str(port)})):
        yield port


def ask(port: int, path: str, token: str = METRICS_TOKEN) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"})


def figure(knock: Knock, which: int, name: str) -> float:
    """The value of a series; 0 if it is not there, or its process not yet."""
    try:
        text = ask(int(knock.environ["METRICS_PORT"]) + which, "/metrics").text
    except httpx.TransportError:
        return 0
    found = re.search(f"^{re.escape(name)} (.+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0


def calls(method: str, status: str) -> str:
    return f'knock_telegram_calls_total{{method="{method}",status="{status}"}}'


def test_the_worker_counts_what_telegram_answers(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    eventually(lambda: figure(knock, WORKER, calls("getMe", "200")) > 0, PATIENCE)
    before = {status: figure(knock, WORKER, calls("sendMessage", status)) for status in ("200", "429")}
    waited = figure(knock, WORKER, "knock_telegram_pause_seconds_total")
    knock.telegram.order({"retry_after": 1}, chat_id=chat)

    alice.post("bob", "hello")
    assert knock.settled(bob) == ["sent"]

    after = {status: figure(knock, WORKER, calls("sendMessage", status)) for status in ("200", "429")}
    assert after == {status: count + 1 for status, count in before.items()}
    assert figure(knock, WORKER, "knock_telegram_pause_seconds_total") == waited + 1


def test_the_bot_counts_what_telegram_answers(knock: Knock) -> None:
    knock.telegram.write(5, "/start")

    eventually(lambda: figure(knock, BOT, calls("getUpdates", "200")) > 0, PATIENCE)
    eventually(lambda: figure(knock, BOT, calls("sendMessage", "200")) > 0, PATIENCE)


def test_the_worker_and_the_bot_are_well(knock: Knock) -> None:
    for which in (WORKER, BOT):
        eventually(partial(figure, knock, which, "process_resident_memory_bytes"), PATIENCE)
        assert ask(int(knock.environ["METRICS_PORT"]) + which, "/readyz").status_code == 200
        assert figure(knock, which, "knock_silence_seconds") < heartbeat.SILENT


def test_a_silent_process_is_not_well(own_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_beat_at", time.monotonic() - heartbeat.SILENT - 1)
    assert ask(own_port, "/readyz").status_code == 503

    heartbeat.beat()
    assert ask(own_port, "/readyz").status_code == 200


def test_the_figures_need_the_token(own_port: int, environ: dict[str, str]) -> None:
    assert ask(own_port, "/metrics").status_code == 200
    assert ask(own_port, "/metrics", token="wrong").status_code == 401
    assert ask(own_port, "/").status_code == 404
    port = free_port()
    with heartbeat.serving(replace(settings.read(environ), metrics_port=port, metrics_token=None)):
        assert ask(port, "/metrics", token="None").status_code == 404


def test_a_port_that_is_taken_is_named(own_port: int, environ: dict[str, str]) -> None:
    chosen = settings.read({**environ, "METRICS_PORT": str(own_port)})
    with pytest.raises(CannotStart, match=str(own_port)), heartbeat.serving(chosen):
        pass


@pytest.mark.parametrize("broken", ["", "REDIS_URL", "DATABASE_URL"])
def test_a_sweep_beats_only_if_postgresql_and_redis_answer(
    environ: dict[str, str], broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    wrong = {"REDIS_URL": f"redis://{nowhere}", "DATABASE_URL": f"postgresql://knock@{nowhere}/knock"}
    chosen = settings.read({**environ, **({broken: wrong[broken]} if broken else {})})
    beats: list[float] = []
    monkeypatch.setattr(heartbeat, "beat", lambda: beats.append(time.monotonic()))

    async def sweep_once() -> None:
        async with postgres.connect(chosen) as engine, redis.asyncio.Redis.from_url(chosen.redis_url) as client:
            task = asyncio.create_task(sweep.forever(postgres.database(engine), client, lambda ids: None))
            await asyncio.to_thread(eventually, lambda: beats or "Nothing can be swept" in caplog.text)
            task.cancel()

    asyncio.run(sweep_once())

    assert bool(beats) is (broken == "")
