"""Each scenario in its short form; `scripts/faults` runs the full ones."""

import asyncio

import pytest

from tests.faults import table
from tests.faults.parts import Parts


@pytest.mark.parametrize("name", [name for name in table.SCENARIOS if name not in {*table.APART, *table.ELSEWHERE}])
def test_nothing_is_lost(parts: Parts, name: str) -> None:
    _, short = table.SCENARIOS[name]

    figures = asyncio.run(short.run(parts))

    # Figures with a unit are durations and shares, which depend on what else runs: `scripts/faults` judges them.
    assert [str(figure) for figure in figures if not figure.unit and not figure.holds] == []
