"""A run of the benchmarks: what the scenarios share, and what they write down."""

from dataclasses import asdict, dataclass, field
from typing import Any

from tqdm import tqdm

from bench.servers import Base


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
        """What is being done now, behind the progress bar."""
        self.bar.set_postfix_str(text)

    def record(self, measure: str, who: str, value: float, unit: str, **details: Any) -> None:
        self.figures.append(Figure(measure, who, value, unit, details))

    @property
    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(figure) for figure in self.figures]
