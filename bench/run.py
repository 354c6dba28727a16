"""A run of the benchmarks: what the scenarios share, and the figures that they record."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tqdm import tqdm

from bench.machine import Neighbours
from bench.servers import Base

T = TypeVar("T")

DISTURBED = 0.02
"""Share of CPU time. If other machines take more than this, a 99th percentile measures them."""
TRIES = 6
"""How often a disturbed measurement is made at most."""


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    measure: str
    who: str
    value: float
    unit: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """One round of the chosen scenarios."""

    base: Base
    is_quick: bool
    bar: "tqdm[Any]"
    figures: list[Figure] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Show what is being done now, after the progress bar."""
        self.bar.set_postfix_str(text)

    def record(self, measure: str, who: str, value: float, unit: str, **details: Any) -> None:
        self.figures.append(Figure(measure, who, value, unit, details))

    def undisturbed(self, what: str, measure: Callable[[], T]) -> T:
        """What `measure` returns; it is called again if other machines took more than DISTURBED meanwhile."""
        for _ in range(TRIES):
            neighbours = Neighbours()
            found = measure()
            stolen = neighbours.share
            if stolen < DISTURBED:
                break
        self.record(f"taken by other machines meanwhile, {what}", "all of it", 100 * stolen, "%")
        return found
