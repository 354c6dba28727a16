"""The scenarios: the full form of each, and the short form that the tests run."""

from dataclasses import asdict

from tests.faults import browsers, cached, changes, delivery, knocks, processes, servers, soak
from tests.faults.scenario import Scenario

SCENARIOS: dict[str, tuple[Scenario, Scenario]] = {
    "web-killed": (delivery.WebKilled(), delivery.WebKilled(sends=120, people=10, kills=1, rate=40)),
    "changes": (changes.Changed(), changes.Changed(people=10, acts=150, kills=1, rate=50)),
    "same-nonce": (delivery.SameNonce(), delivery.SameNonce(times=40)),
    "cuts": (delivery.Cuts(), delivery.Cuts(people=12, sends=120, shortest=0.5, longest=1, seconds=3)),
    "late-commit": (delivery.LateCommit(), delivery.LateCommit(rounds=10, chats=10)),
    "between-page-and-socket": (delivery.BetweenPageAndSocket(), delivery.BetweenPageAndSocket(loads=40)),
    "stampede": (delivery.Stampede(), delivery.Stampede(clients=200)),
    "terminated": (processes.Terminated(), processes.Terminated(sockets=20)),
    "rolling-restart": (processes.RollingRestart(), processes.RollingRestart(sockets=20, rate=20, sends=20)),
    "never-read": (processes.NeverRead(), processes.NeverRead(deaf=10, people=4, rate=20, seconds=10)),
    "standing-still": (processes.StandingStill(), processes.StandingStill(sends=30)),
    "valkey-away": (
        servers.ValkeyAway(),
        servers.ValkeyAway(refused=2, frozen=3, full=1, between=1, people=6, rate=10),
    ),
    "postgres-away": (servers.PostgresAway(), servers.PostgresAway(down=3, people=6)),
    "slow-reader": (cached.SlowReader(), cached.SlowReader(pairs=200)),
    "cold-readers": (cached.ColdReaders(), cached.ColdReaders(readers=60)),
    "hidden-tab": (browsers.HiddenTab(), browsers.HiddenTab(seconds=2, messages=10)),
    "worker-killed": (knocks.WorkerKilled(), knocks.WorkerKilled(notifications=40, kills=1, rate=20)),
    "died-before-enqueue": (knocks.DiedBeforeEnqueue(), knocks.DiedBeforeEnqueue(kills=2, processes=2)),
    "queue-wiped": (knocks.QueueWiped(), knocks.QueueWiped(pending=30)),
    "enqueue-cut": (knocks.EnqueueCut(), knocks.EnqueueCut(times=2)),
    "refusals": (knocks.Refusals(), knocks.Refusals(pause=2)),
    "changed-minds": (knocks.ChangedMinds(), knocks.ChangedMinds(each=2)),
    "bot-killed": (knocks.BotKilled(), knocks.BotKilled(updates=20, kills=1)),
    "swallowed": (browsers.Swallowed(), browsers.Swallowed()),
    "soak": (soak.Soak(), soak.Soak(minutes=2, sockets=60)),
}

APART = ("soak",)
"""Too long to run with the others."""
ELSEWHERE = {
    "worker-killed": "tests/notifications/test_worker.py",
    "queue-wiped": "tests/notifications/test_worker.py",
    "refusals": "tests/telegram/test_errors.py",
    "changed-minds": "tests/notifications/test_notifications.py",
}
"""Scenarios whose short form the tests skip, since these files already test the same fault."""
BACKGROUND = ("hidden-tab",)
"""Mostly waits, so it runs in the background of the scenarios after it."""


def described(scenario: Scenario) -> str:
    """What the scenario does, with its numbers."""
    return (scenario.__doc__ or "").format(**asdict(scenario))  # type: ignore[call-overload]
