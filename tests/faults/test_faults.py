"""Each scenario in its short form; `scripts/faults` runs the full ones."""

import asyncio

import pytest

from tests.faults import table
from tests.faults.figures import Figure
from tests.faults.parts import Parts

DURATIONS = (" s", " ms")


@pytest.mark.parametrize("name", [name for name in table.SCENARIOS if name not in table.APART])
def test_nothing_is_lost(parts: Parts, name: str) -> None:
    _, short = table.SCENARIOS[name]

    figures = asyncio.run(short.run(parts))

    assert not [str(figure) for figure in figures if not _holds(figure)]


def _holds(figure: Figure) -> bool:
    """Other tests and other programs may run beside this one, so a duration may be three times what is promised."""
    if figure.unit not in DURATIONS or figure.at_most is None:
        return figure.holds
    return figure.value <= 3 * figure.at_most
