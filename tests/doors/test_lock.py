"""What is installed: exactly what the requirements files pin, with the hashes that the lock files have."""

import json
import re
from pathlib import Path

import pytest

from tests.site import TOP

FILES = [
    "requirements.txt",
    "scripts/requirements.txt",
    "scripts/requirements-npm.txt",
    "tests/requirements.txt",
    "bench/requirements.txt",
]


def pins(file: Path) -> set[str]:
    """Each package and version, as `name==version`, of lower case and with dashes."""
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)", file.read_text(), re.MULTILINE)
    return {f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}" for name, version in found}


@pytest.mark.parametrize("name", FILES)
def test_every_package_that_is_pinned_has_its_hashes(name: str) -> None:
    requirements, lock = TOP / name, (TOP / name).with_suffix(".lock")

    assert pins(lock) == pins(requirements), "run scripts/lock"
    for entry in re.split(r"^(?=\S)", lock.read_text(), flags=re.MULTILINE):
        assert "==" not in entry or "--hash=sha256:" in entry, entry
    included = re.findall(r"^-r (.*)\.txt$", requirements.read_text(), re.MULTILINE)
    assert re.findall(r"^-r (.*)\.lock$", lock.read_text(), re.MULTILINE) == included


def test_every_package_of_npm_has_its_hash() -> None:
    packages = json.loads((TOP / "package-lock.json").read_text())["packages"]

    assert all(package["integrity"] for path, package in packages.items() if path)


@pytest.mark.parametrize("file", ["scripts/setup", "Dockerfile"])
def test_nothing_is_installed_without_hashes(file: str) -> None:
    commands = re.findall(r"pip install .*", (TOP / file).read_text())

    assert len(commands) == 1
    assert all("--require-hashes" in command and ".lock" in command for command in commands)
