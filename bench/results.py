"""The figures of all rounds together, as a table and as JSON."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from bench.run import Figure


def summary(rounds: list[list[Figure]]) -> list[dict[str, Any]]:
    """Each measure of each contestant: median, minimum and maximum over the rounds."""
    together: dict[tuple[str, str, str], list[float]] = {}
    for figures in rounds:
        for figure in figures:
            together.setdefault((figure.measure, figure.who, figure.unit), []).append(figure.value)
    return [
        {"measure": measure, "who": who, "unit": unit, "median": median(values), "min": min(values), "max": max(values)}
        for (measure, who, unit), values in together.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table."""
    lines = ["| measure | who | median | min | max |", "| --- | --- | ---: | ---: | ---: |"]
    for row in rows:
        numbers = " | ".join(_short(row[name]) for name in ("median", "min", "max"))
        lines.append(f"| {row['measure']}, {row['unit']} | {row['who']} | {numbers} |")
    return "\n".join(lines)


def save(folder: Path, machine: str, rounds: list[list[Figure]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = summary(rounds)
    saved = {
        "machine": machine,
        "summary": rows,
        "rounds": [[vars(figure) for figure in figures] for figures in rounds],
    }
    (folder / "results.json").write_text(json.dumps(saved, indent=1))
    (folder / "table.md").write_text(f"{machine}\n\n{table(rows)}\n")
    for figure in rounds[-1]:
        if "plans" in figure.details:
            plans = "\n\n".join(f"{title}\n{plan}" for title, plan in figure.details["plans"].items())
            (folder / "plans.txt").write_text(plans + "\n")


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
