"""`scripts/faults`: runs the scenarios in their full form, one after another."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tests.faults import parts as running
from tests.faults import table
from tests.faults.figures import Figure
from tests.faults.parts import Parts


def main() -> int:
    """The exit code: 1 if a figure misses its bounds."""
    arguments = _arguments()
    names = arguments.only or [name for name in table.SCENARIOS if name not in table.APART]
    results: list[dict[str, Any]] = []
    Path(arguments.json).parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="knock-faults-") as folder,
        _quiet(arguments.log),
        running.started(Path(folder), fsync=True) as parts,
        ThreadPoolExecutor() as background,
        click.progressbar(names, label="faults", item_show_func=_label, file=sys.stdout) as bar,
    ):
        waiting = []
        for name in bar:
            parts.clean()
            if name in table.BACKGROUND:
                waiting.append(background.submit(_run, parts, name, short=arguments.short))
            else:
                results.append(_run(parts, name, short=arguments.short))
            Path(arguments.json).write_text(json.dumps(results, indent=2) + "\n")
        results += [result.result() for result in waiting]
    Path(arguments.json).write_text(json.dumps(results, indent=2) + "\n")
    _print(results)
    print(f"\nwritten to {arguments.json}")
    return 0 if all(figure["holds"] for result in results for figure in result["figures"]) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/faults", description="Break every part while people write.")
    parser.add_argument("only", nargs="*", help=f"from {', '.join(table.SCENARIOS)}; default: all but the soak")
    parser.add_argument("--short", action="store_true", help="run the short forms, as the tests do")
    parser.add_argument("--json", default="data/faults.json", help="file for the figures")
    parser.add_argument("--log", default=os.devnull, help="file for the logs of the parts")
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - set(table.SCENARIOS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return arguments


def _run(parts: Parts, name: str, *, short: bool) -> dict[str, Any]:
    scenario = table.SCENARIOS[name][short]
    started = time.monotonic()
    figures: Sequence[Figure]
    try:
        figures = asyncio.run(scenario.run(parts))
    except Exception as error:  # the others still run
        print(f"{name}: {error!r}", file=sys.stderr)
        figures = [Figure(f"ended by {type(error).__name__}", 1, at_most=0)]
    seconds = time.monotonic() - started
    rows = [
        {"name": one.name, "value": round(one.value, 3), "unit": one.unit, "wanted": one.wanted, "holds": one.holds}
        for one in figures
    ]
    return {"scenario": name, "do": table.described(scenario), "seconds": round(seconds, 1), "figures": rows}


def _print(results: Sequence[dict[str, Any]]) -> None:
    for result in results:
        print(f"\n{result['scenario']}: {result['do']} ({result['seconds']:.0f} s)")
        for figure in result["figures"]:
            mark = " " if figure["holds"] else "!"
            wanted = f"   (wanted: {figure['wanted']})" if figure["wanted"] else ""
            print(f"  {mark} {figure['value']:>10,g}{figure['unit']:<3} {figure['name']}{wanted}")


def _label(name: str | None) -> str | None:
    return name and f"now: {name}"


@contextmanager
def _quiet(log: str) -> Iterator[None]:
    """Send the parts' stderr to the log, away from the progress bar."""
    stderr = os.dup(2)
    try:
        with open(log, "a") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


if __name__ == "__main__":
    sys.exit(main())
