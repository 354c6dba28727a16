"""`scripts/bench`: runs the chosen scenarios for some rounds and saves their figures."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bench import machine, plot, results, servers
from bench.run import Figure, Run
from bench.scenarios import SCENARIOS

FOLDER = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures Knock beside other chats.")
    parser.add_argument("--only", default=",".join(SCENARIOS), help=f"scenarios, from {', '.join(SCENARIOS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="shorter and rougher")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := [name for name in chosen if name not in SCENARIOS]:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(SCENARIOS)}")
    machine.allow_many_files()
    logging.disable(logging.INFO)  # Alembic's
    described = machine.description()
    rounds: list[list[Figure]] = []
    bar: tqdm[Any]
    with tqdm(total=arguments.rounds * len(chosen), unit="scenario", file=sys.stderr) as bar:
        for _ in range(arguments.rounds):
            with servers.base() as base:
                run = Run(base, arguments.quick, bar)
                rounds.append(run.figures)
                for name in chosen:
                    bar.set_description(name)
                    neighbours = machine.Neighbours()
                    SCENARIOS[name](run)
                    run.record(f"taken by other machines, {name}", "all of it", 100 * neighbours.share, "%")
                    results.save(FOLDER, described, rounds)
                    bar.update()
    print(f"\n{described}\n\n{results.table(results.summary(rounds))}\n\nin {FOLDER}")
    plot.draw(FOLDER, rounds)


if __name__ == "__main__":
    main()
