"""Sockets: memory of an idle one, how fast they open, how long a post takes to reach a thousand of them."""

from functools import partial
from typing import Any

from bench import load, people, servers
from bench.run import Run

MANY = 10_000
FIRST = 100
TABS = 1_000
GAP = 0.05
"""Seconds between two posts."""


def idle(run: Run) -> None:
    counts = [1_000, 2_000] if run.is_quick else [1_000, 5_000, MANY]
    names = [people.name(number) for number in range(counts[-1])]
    with run.base.postgres() as postgres:
        people.make(postgres, counts[-1])
        cookies = people.cookies(postgres, run.base.settings, names)

    def measure() -> tuple[list[int], float]:
        with servers.knock(run.base) as server, load.running() as generator:
            _open(generator, server.port, "knock", cookies[:FIRST], names[:FIRST])  # allocate what stays
            taken = [server.part.memory]
            seconds = 0.0
            for count in counts:
                run.say(f"{count:,} idle sockets")
                seconds += _open(generator, server.port, "knock", cookies[:count], names[:count])["seconds"]
                taken.append(server.part.memory)
        return taken, seconds

    taken, seconds = run.undisturbed("sockets", measure)
    opened = counts[-1] - FIRST
    details = {"sockets": [FIRST, *counts], "bytes": taken}
    run.record("memory of an idle socket", "Knock", (taken[-1] - taken[0]) / opened / 1024, "KiB", **details)
    run.record("10,000 sockets opened", "Knock", seconds / opened * MANY, "s")


def fan_out(run: Run) -> None:
    posts = 10 if run.is_quick else 40
    names = [people.name(number % 2) for number in range(TABS)]
    to = [people.name(number % 2 ^ 1) for number in range(TABS)]
    with run.base.postgres() as postgres:
        people.make(postgres, 2)
        cookies = people.cookies(postgres, run.base.settings, names)
    run.say(f"Knock: a post to {TABS:,} tabs of two people")
    with servers.knock(run.base) as server, load.running() as generator:
        _open(generator, server.port, "knock", cookies, to)
        ours = _fan_out(run, "fan-out", generator, posts)
    run.say(f"bare uvicorn: a frame to {TABS:,} sockets")
    with servers.bare("fan_out", frame=round(ours["frame_bytes"])) as server, load.running() as generator:
        _open(generator, server.port, "json", cookies, to)
        bare = _fan_out(run, "bare fan-out", generator, posts)
    for who, answer in (("Knock", ours), ("bare uvicorn", bare)):
        run.record(f"one post at {TABS:,} sockets, last copy, p50", who, answer["p50"], "ms", **answer)


def start(run: Run) -> None:
    with servers.knock(run.base):
        pass  # so that byte code and files are cached
    run.say("starting Knock")

    def measure() -> float:
        with servers.knock(run.base) as server:
            return server.seconds

    run.record("start of python -m web until it is ready", "Knock", run.undisturbed("start", measure), "s")


def _fan_out(run: Run, what: str, generator: load.Load, posts: int) -> dict[str, Any]:
    generator.do("fan_out", posts=5, gap=GAP)
    return run.undisturbed(what, partial(generator.do, "fan_out", posts=posts, gap=GAP))


def _open(generator: load.Load, port: int, dialect: str, cookies: list[str], to: list[str]) -> dict[str, float]:
    return generator.do("open", host="127.0.0.1", port=port, dialect=dialect, cookies=cookies, to=to)
