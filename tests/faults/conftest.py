"""The parts of a Knock of its own, for the short forms."""

from collections.abc import Iterator

import pytest

from tests.faults import parts as running
from tests.faults.parts import Parts


@pytest.fixture(scope="session")
def shared_parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with running.started(tmp_path_factory.mktemp("faults"), fsync=False) as parts:
        yield parts


@pytest.fixture
def parts(shared_parts: Parts) -> Parts:
    shared_parts.clean()
    return shared_parts
