"""Sockets: what an idle one takes, how fast they open, how long a post needs to reach a thousand of them."""

from bench import load, people, servers
from bench.run import Run

MANY = 10_000
TABS = 1_000
GAP = 0.05
"""Seconds between two posts."""


def idle(run: Run) -> None:
    count = MANY // 5 if run.is_quick else MANY
    names = [people.name(number) for number in range(count)]
    with run.base.postgres() as postgres:
        people.make(postgres, count)
        cookies = people.cookies(postgres, run.base.settings, names)
    with servers.knock(run.base) as server, load.running() as generator:
        _open(generator, server.port, "knock", cookies[:100], names[:100])  # what the first ones load stays
        before = server.part.memory
        run.say(f"{count:,} idle sockets")
        answer = _open(generator, server.port, "knock", cookies, names)
        taken = server.part.memory - before
    run.record("memory of an idle socket", "Knock", taken / (count - 100) / 1024, "KiB")
    run.record(f"{count:,} sockets opened", "Knock", answer["seconds"], "s")


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
