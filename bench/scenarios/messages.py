"""Messages that are committed and then delivered, to the recipient and back to the sender."""

from functools import partial

from bench import contestants, ramp, silence
from bench.contestants import CONTESTANTS
from bench.run import Run

LATENCY_RATE = 100
PROCESSES = (1, 2)
SILENT = 5_000


def of_200(run: Run) -> None:
    _highest(run, 200)


def of_1000(run: Run) -> None:
    _highest(run, 1000)


def _highest(run: Run, count: int) -> None:
    for which, contestant in CONTESTANTS.items():
        with contestants.racing(run.base, which, count) as race:
            found = ramp.highest(run, race)
        details = {"answer": found.answer, "cpu": found.cpu, "steps": found.steps, "load_share": found.load_share}
        run.record(f"highest rate, {count} people", contestant.title, found.answer["rate"], "messages/s", **details)
        run.record(
            f"web CPU a message at the highest rate, {count} people", contestant.title, found.web_microseconds, "µs"
        )
        run.record(f"the load's share of the CPU, {count} people", contestant.title, 100 * found.load_share, "%")
        stolen = 100 * found.answer["stolen"]
        run.record(f"taken by other machines meanwhile, {count} people", contestant.title, stolen, "%")


def latency(run: Run) -> None:
    for which in ("knock", "socketio", "usual"):
        with contestants.racing(run.base, which, 200) as race:
            run.say(f"{race.contestant.title}: {LATENCY_RATE}/s")
            measure = partial(ramp.step, race, LATENCY_RATE, 4 if run.is_quick else 10)
            answer, cpu = run.undisturbed(f"latency of {race.contestant.title}", measure)
            assert race.audit(answer) == answer["delivered"] == answer["sent"]
        for point in ("p50", "p99"):
            run.record(f"latency at {LATENCY_RATE}/s, {point}", race.contestant.title, answer[point], "ms")
        web = cpu["web"] / answer["delivered"]
        run.record(f"web CPU a message at {LATENCY_RATE}/s", race.contestant.title, web * 1e6, "µs")


def silent(run: Run) -> None:
    """Some people write while others hold connections open, for twice as long as the site lets them."""
    with contestants.racing(run.base, "knock", 200) as race, silence.around(race.server.port, SILENT):
        run.say(f"{SILENT:,} silent connections: {LATENCY_RATE}/s")
        answer, cpu = ramp.step(race, LATENCY_RATE, 10 if run.is_quick else 30)
        assert race.audit(answer) == answer["delivered"] == answer["sent"]
    for point in ("p50", "p95", "p99"):
        run.record(
            f"latency at {LATENCY_RATE}/s beside {SILENT:,} silent connections, {point}", "Knock", answer[point], "ms"
        )
    run.record(f"web CPU beside {SILENT:,} silent connections", "Knock", 100 * cpu["web"] / answer["seconds"], "%")


def processes(run: Run) -> None:
    for number in PROCESSES:
        with contestants.racing(run.base, "knock", 200, number) as race:
            found = ramp.highest(run, race)
        who = f"Knock, {number} web process{'es' if number > 1 else ''}"
        run.record("highest rate by web processes", who, found.answer["rate"], "messages/s", cpu=found.cpu)
