"""Each scenario in its short form; `scripts/faults` runs the full ones."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.faults import parts as running
from tests.faults import table
from tests.faults.parts import Parts


@pytest.fixture(scope="session")
def shared_parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with running.started(tmp_path_factory.mktemp("faults"), fsync=False) as parts:
        yield parts


@pytest.fixture
def parts(shared_parts: Parts) -> Parts:
    shared_parts.clean()
    return shared_parts


@pytest.mark.parametrize("name", table.SCENARIOS)
def test_nothing_is_lost(parts: Parts, name: str) -> None:
    _, short = table.SCENARIOS[name]

    figures = asyncio.run(short.run(parts))

    assert not [str(figure) for figure in figures if not figure.holds]
