"""Finds the highest rate at which a chat delivers in time: doubles it, narrows it down, confirms it."""

from dataclasses import dataclass
from typing import Any

from bench.contestants import Race
from bench.machine import Meter, Neighbours
from bench.run import Run

IN_TIME = 100.0
"""Limit for the 99th percentile, in milliseconds from the send until both people have the message."""
FIRST = 100
CONFIRM_SECONDS = 6.0
TRIES = 15
"""How many rates are tried, each lower than the last, until one is confirmed."""
LOWER = 0.93
TRIES_OF_A_STEP = 3
"""A step may fail because of a hiccup of the machine."""
DISTURBED = 0.05
"""Share of CPU time. A step that fails while other machines take more than this is run again."""
PATIENCE = 20
"""How many steps of one race are run again at most."""


@dataclass(frozen=True)
class Highest:
    """The confirmed rate, the CPU seconds of each part, and every step on the way."""

    answer: dict[str, Any]
    cpu: dict[str, float]
    steps: list[tuple[float, float]]
    """Messages a second, p99."""

    @property
    def web_microseconds(self) -> float:
        """CPU of the web processes per message."""
        return self.cpu["web"] / int(self.answer["delivered"]) * 1e6

    @property
    def load_share(self) -> float:
        """The load's share of all CPU that the run took."""
        return self.cpu["load"] / sum(value for name, value in self.cpu.items() if name != "elapsed")


def step(race: Race, rate: float, seconds: float) -> tuple[dict[str, Any], dict[str, float]]:
    """Send at one rate. Returns the answer and CPU seconds. Raises AssertionError if a message was wrong or doubled."""
    meter, neighbours = Meter(race.parts), Neighbours()
    meter.start()
    answer = race.load.do("run", rate=rate, seconds=seconds)
    cpu = meter.stop()
    answer["stolen"] = neighbours.share
    assert not answer["wrong"], f"{answer['wrong']} frames showed a wrong message"
    assert not answer["duplicates"], f"{answer['duplicates']} messages arrived twice"
    return answer, cpu


def highest(run: Run, race: Race) -> Highest:
    """Raises AssertionError if no rate is in time, or a message was wrong, doubled or lost."""
    steps: list[tuple[float, float]] = []
    runs: list[dict[str, Any]] = []
    disturbed = 0

    def tried(rate: float, seconds: float) -> tuple[dict[str, Any], dict[str, float], bool]:
        """The answer, the CPU seconds, and whether it was in time."""
        nonlocal disturbed
        while True:
            answer, cpu = step(race, rate, seconds)
            runs.append(answer)
            in_time = not answer["given_up"] and answer["p99"] < IN_TIME
            if in_time or answer["stolen"] < DISTURBED or disturbed == PATIENCE:
                return answer, cpu, in_time
            disturbed += 1

    def is_in_time(rate: float, seconds: float) -> bool:
        run.say(f"{race.contestant.title}, {race.count} people: {rate:,.0f}/s")
        answer, _, in_time = tried(rate, seconds)
        if not answer["given_up"]:
            steps.append((rate, answer["p99"]))
        return in_time

    good, bad = 0.0, float(FIRST)
    while any(is_in_time(bad, 1.5) for _ in range(TRIES_OF_A_STEP)):
        good, bad = bad, bad * 2
    for _ in range(2 if run.is_quick else 4):
        middle = (good * bad) ** 0.5 if good else bad / 2
        if any(is_in_time(middle, 2) for _ in range(TRIES_OF_A_STEP - 1)):
            good = middle
        else:
            bad = middle
    rate = good or bad
    for _ in range(TRIES):
        run.say(f"{race.contestant.title}, {race.count} people: {rate:,.0f}/s, confirming")
        answer, cpu, is_confirmed = tried(rate, CONFIRM_SECONDS / 2 if run.is_quick else CONFIRM_SECONDS)
        if is_confirmed:
            break
        rate *= LOWER
    assert is_confirmed, f"not even {rate:,.0f}/s was confirmed"
    steps.append((answer["rate"], answer["p99"]))
    run.say(f"{race.contestant.title}: comparing what was sent with what is stored")
    for each in runs:
        stored = race.audit(each)
        # A run that was given up may have stored messages that were not delivered in time, never the other way round.
        assert each["delivered"] <= stored <= each["sent"], f"{stored} stored of {each['sent']}"
    return Highest(answer, cpu, sorted(steps))
