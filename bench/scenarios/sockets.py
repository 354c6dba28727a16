"""Sockets: what an idle one takes, how fast they open, how long a post needs to reach a thousand of them."""

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
    with servers.knock(run.base) as server, load.running() as generator:
        _open(generator, server.port, "knock", cookies[:FIRST], names[:FIRST])  # what the first ones load stays
        taken = [server.part.memory]
        seconds = 0.0
        for count in counts:
            run.say(f"{count:,} idle sockets")
            seconds += _open(generator, server.port, "knock", cookies[:count], names[:count])["seconds"]
            taken.append(server.part.memory)
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
        generator.do("fan_out", posts=5, gap=GAP)
        ours = generator.do("fan_out", posts=posts, gap=GAP)
    run.say(f"bare uvicorn: a frame to {TABS:,} sockets")
    with servers.bare("fan_out", frame=round(ours["frame_bytes"])) as server, load.running() as generator:
        _open(generator, server.port, "json", cookies, to)
        generator.do("fan_out", posts=5, gap=GAP)
        bare = generator.do("fan_out", posts=posts, gap=GAP)
    for who, answer in (("Knock", ours), ("bare uvicorn", bare)):
        run.record(f"one post at {TABS:,} sockets, last copy, p50", who, answer["p50"], "ms", **answer)


def start(run: Run) -> None:
    with servers.knock(run.base):
        pass  # byte code and files are read once
    run.say("starting Knock")
    with servers.knock(run.base) as server:
        run.record("start of python -m web until it is ready", "Knock", server.seconds, "s")


def _open(generator: load.Load, port: int, dialect: str, cookies: list[str], to: list[str]) -> dict[str, float]:
    return generator.do("open", host="127.0.0.1", port=port, dialect=dialect, cookies=cookies, to=to)
