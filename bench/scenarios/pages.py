"""HTTP: a cached chat page of 50 messages, the same while the chat changes, and messages sent by form."""

from functools import partial
from typing import Any

from bench import contestants, load, people, ramp
from bench.contestants import Race
from bench.dialects import LINE
from bench.machine import Meter
from bench.run import Run

CLIENTS = 16
PROCESSES = 2
"""Web processes for the page, which is measured on all cores."""
POSTED = 10
"""Messages a second that change the chat during the second measurement."""


def page(run: Run) -> None:
    seconds = 2 if run.is_quick else 5
    with contestants.racing(run.base, "knock", 2, PROCESSES) as race, load.running("bench.browsers") as browsers:
        ramp.step(race, 100, 1)  # more than fifty messages
        requests = [get(cookie, people.name(number % 2 ^ 1)) for number, cookie in enumerate(_cookies(run, 2, CLIENTS))]
        job: dict[str, Any] = {"requests": requests, "expected": '<li id="message-', "count": 50}
        run.say("the page of a chat, 16 clients")
        _fetch(race, browsers, job, 1)
        quiet, cpu = run.undisturbed("chat page", partial(_fetch, race, browsers, job, seconds))
        run.say(f"the page of a chat, 16 clients, while {POSTED} messages/s arrive")
        changing = run.undisturbed("chat page that changes", partial(_while_posted, race, browsers, job, seconds))
    run.record("chat page of 50 messages, 16 clients, two web processes", "Knock", quiet["rate"], "pages/s", cpu=cpu)
    run.record("chat page of 50 messages, p99", "Knock", quiet["p99"], "ms")
    run.record(f"chat page while {POSTED}/s are posted", "Knock", changing["rate"], "pages/s")
    run.record(f"chat page while {POSTED}/s are posted, share", "Knock", 100 * changing["rate"] / quiet["rate"], "%")


def post(run: Run) -> None:
    with contestants.racing(run.base, "knock", 2 * CLIENTS) as race, load.running("bench.browsers") as browsers:
        cookies = _cookies(run, 2 * CLIENTS, 2 * CLIENTS)
        requests = [_post(cookie, people.partner(number)) for number, cookie in enumerate(cookies)]
        job: dict[str, Any] = {"requests": requests, "expected": 'class="message-body"', "count": 1}
        run.say("messages by HTTP, 32 clients")
        _fetch(race, browsers, job, 1, clients=2 * CLIENTS)
        measure = partial(_fetch, race, browsers, job, 2 if run.is_quick else 5, clients=2 * CLIENTS)
        answer, cpu = run.undisturbed("messages by HTTP", measure)
        with run.base.postgres() as postgres:
            query = "SELECT count(*), count(*) FILTER (WHERE body = nonce || %s) FROM messages WHERE nonce LIKE %s"
            row = postgres.execute(query, [LINE, f"{answer['run']}%"]).fetchone()
        assert row == (answer["delivered"], answer["delivered"]), f"{row} stored of {answer['delivered']}"
    run.record("messages by HTTP, 32 clients", "Knock", answer["rate"], "messages/s", cpu=cpu)
    run.record("messages by HTTP, p99", "Knock", answer["p99"], "ms")


def _fetch(
    race: Race, browsers: load.Load, job: dict[str, Any], seconds: float, clients: int = CLIENTS
) -> tuple[dict[str, Any], dict[str, float]]:
    meter = Meter({**race.parts, "browsers": browsers.part})
    meter.start()
    answer = browsers.do("fetch", host="127.0.0.1", port=race.server.port, seconds=seconds, clients=clients, **job)
    return answer, meter.stop()


def _while_posted(race: Race, browsers: load.Load, job: dict[str, Any], seconds: float) -> dict[str, Any]:
    race.load.begin("run", rate=POSTED, seconds=seconds)
    answer, _ = _fetch(race, browsers, job, seconds)
    posted = race.load.end()
    assert posted["delivered"] == posted["sent"]
    assert not posted["wrong"]
    return answer


def _cookies(run: Run, people_count: int, count: int) -> list[str]:
    with run.base.postgres() as postgres:
        return people.cookies(
            postgres, run.base.settings, [people.name(number % people_count) for number in range(count)]
        )


def get(cookie: str, other: str) -> str:
    return f"GET /chat/{other} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n"


def _post(cookie: str, to: str) -> str:
    form = f"nonce={{nonce}}&body={{nonce}}{LINE.replace(' ', '+').replace(',', '%2C')}"
    length = len(form.replace("{nonce}", "0" * 16))
    return (
        f"POST /chat/{to}/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\nHX-Request: true\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
    )
