"""Parts that the tests may break: servers apart from those of the other tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import parts as running
from tests.faults.parts import Parts


@pytest.fixture(scope="session")
def shared_parts(data: Path) -> Iterator[Parts]:
    with running.started(data / "faults", fsync=False) as parts:
        yield parts


@pytest.fixture
def parts(shared_parts: Parts) -> Parts:
    shared_parts.clean()
    return shared_parts
