"""The highest rate at which a chat still answers in time: doubled until it does not, narrowed down, confirmed."""

from dataclasses import dataclass
from typing import Any

from bench.contestants import Race
from bench.machine import Meter, Neighbours
from bench.run import Run

IN_TIME = 100.0
"""Milliseconds that the 99th percentile may take, from the send until both have the message."""
FIRST = 100
CONFIRM_SECONDS = 6.0
TRIES = 15
"""Times that a rate which is not confirmed is lowered."""
LOWER = 0.93
TRIES_OF_A_STEP = 3
"""One hiccup of the machine is not the chat's."""
DISTURBED = 0.05
"""Of the machine's time: a step that is not in time says nothing while other machines take more, and is run again."""
PATIENCE = 20
"""Such steps of one race at the most."""


@dataclass(frozen=True)
class Highest:
    """What was confirmed, with the CPU seconds of each part, and every step that led there."""

    answer: dict[str, Any]
    cpu: dict[str, float]
    steps: list[tuple[float, float]]
    """Messages a second, p99."""

    @property
    def web_microseconds(self) -> float:
        """CPU of the web processes for a message."""
        return self.cpu["web"] / int(self.answer["delivered"]) * 1e6

    @property
    def load_share(self) -> float:
        """Of all the CPU that the run took, the load's."""
        return self.cpu["load"] / sum(value for name, value in self.cpu.items() if name != "elapsed")


def step(race: Race, rate: float, seconds: float) -> tuple[dict[str, Any], dict[str, float]]:
    """One rate for so long: what came of it, and its CPU. Raises AssertionError where a message went wrong."""
    meter, neighbours = Meter(race.parts), Neighbours()
    meter.start()
    answer = race.load.do("run", rate=rate, seconds=seconds)
    cpu = meter.stop()
    answer["stolen"] = neighbours.share
    assert not answer["wrong"], f"{answer['wrong']} frames showed a wrong message"
    assert not answer["duplicates"], f"{answer['duplicates']} messages came twice"
    return answer, cpu


def highest(run: Run, race: Race) -> Highest:
    """Raises AssertionError where no rate is in time, or a message went wrong."""
    steps: list[tuple[float, float]] = []
    runs: list[dict[str, Any]] = []
    disturbed = 0

    def tried(rate: float, seconds: float) -> tuple[dict[str, Any], dict[str, float], bool]:
        """What came of it, and whether it was in time."""
        nonlocal disturbed
        while True:
            answer, cpu = step(race, rate, seconds)
            runs.append(answer)
            came = not answer["given_up"] and answer["p99"] < IN_TIME
            if came or answer["stolen"] < DISTURBED or disturbed == PATIENCE:
                return answer, cpu, came
            disturbed += 1

    def is_in_time(rate: float, seconds: float) -> bool:
        run.say(f"{race.contestant.title}, {race.count} people: {rate:,.0f}/s")
        answer, _, came = tried(rate, seconds)
        if not answer["given_up"]:
            steps.append((rate, answer["p99"]))
        return came

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
        run.say(f"{race.contestant.title}, {race.count} people: {rate:,.0f}/s, to be confirmed")
        answer, cpu, is_confirmed = tried(rate, CONFIRM_SECONDS / 2 if run.is_quick else CONFIRM_SECONDS)
        if is_confirmed:
            break
        rate *= LOWER
    assert is_confirmed, f"not even {rate:,.0f}/s was confirmed"
    steps.append((answer["rate"], answer["p99"]))
    run.say(f"{race.contestant.title}: comparing what was sent with what is kept")
    for each in runs:
        kept = race.audit(each)
        # What was given up may have been written without having been delivered in time, never the other way round.
        assert each["delivered"] <= kept <= each["sent"], f"{kept} kept of {each['sent']}"
    return Highest(answer, cpu, sorted(steps))
