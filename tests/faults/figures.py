"""What a scenario measured, with its bounds."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One number, with bounds if Knock promises any."""

    name: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def holds(self) -> bool:
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    @property
    def wanted(self) -> str:
        """The bounds in words, empty without bounds."""
        if self.at_least is None and self.at_most is None:
            return ""
        if self.at_least == self.at_most:
            return f"{self.at_most:,g}{self.unit}"
        if self.at_least is None:
            return f"at most {self.at_most:,g}{self.unit}"
        return f"at least {self.at_least:,g}{self.unit}"

    def __str__(self) -> str:
        value = f"{self.value:,.0f}" if self.value == int(self.value) else f"{self.value:,.2f}"
        return f"{self.name}: {value}{self.unit}" + (f" (wanted: {self.wanted})" if not self.holds else "")


def exactly(name: str, value: float, wanted: float) -> Figure:
    return Figure(name, value, at_least=wanted, at_most=wanted)


def at_most(name: str, value: float, bound: float, unit: str = "") -> Figure:
    return Figure(name, value, unit, at_most=bound)


def measured(name: str, value: float, unit: str = "") -> Figure:
    """A figure without bounds."""
    return Figure(name, value, unit)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values lie at or under; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0
