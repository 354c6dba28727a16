"""What must never stand in a log. The output of the processes of every test is searched for it (tests/conftest.py)."""

from itertools import chain

from tests.telegram import bot_api

SECRETS = (
    "knock knock knock",  # the password
    "$argon2",
    "the-key-of-the-tests-long-enough-for-them",
    "the-token-of-the-metrics",
    bot_api.TOKEN.partition(":")[2],
)
LEAST = 12
"""Characters of a text that cannot be in a log by chance."""

cookies: set[str] = set()
"""Of everybody who logged in during this test."""
bodies: set[str] = set()
"""The messages that people wrote during this test, apart from single words."""


def wrote(body: str) -> None:
    if len(body.strip()) >= LEAST and " " in body.strip():
        bodies.add(body)


def found(log: str) -> list[str]:
    """The secrets in it, each with its line."""
    leaked = [secret for secret in chain(SECRETS, cookies, bodies) if secret in log]
    return [f"{secret!r} in: {line}" for secret in leaked for line in log.splitlines() if secret in line] or leaked


def forget() -> None:
    cookies.clear()
    bodies.clear()
