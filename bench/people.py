"""People with sessions, made by SQL, since hashing their passwords would take minutes."""

import secrets
from datetime import UTC, datetime, timedelta

import psycopg

from web.accounts import codes
from web.settings import Settings


def make(postgres: psycopg.Connection, count: int) -> None:
    """Make sure that `count` users exist: person0, person1 and so on, with token 1."""
    postgres.execute(
        """
        INSERT INTO users (username, password_hash, token)
        SELECT 'person' || number, '', 1 FROM generate_series(0, %s::int - 1) AS number
        ON CONFLICT DO NOTHING
        """,
        [count],
    )


def name(number: int) -> str:
    return f"person{number}"


def partner(number: int) -> str:
    """The name of the person they write to: 2n and 2n + 1 write to each other."""
    return name(number ^ 1)


def cookies(postgres: psycopg.Connection, settings: Settings, names: list[str]) -> list[str]:
    """A cookie for each of these names, each with its own session."""
    rows = postgres.execute("SELECT username, id FROM users WHERE username = ANY(%s)", [names]).fetchall()
    ids: dict[str, int] = dict(rows)
    signer = codes.signer(settings, "session")
    expires_at = datetime.now(UTC) + timedelta(hours=12)
    made = []
    with postgres.cursor() as cursor, cursor.copy("COPY sessions (id, user_id, expires_at) FROM STDIN BINARY") as copy:
        copy.set_types(["bytea", "int8", "timestamptz"])
        for each in names:
            secret = secrets.token_urlsafe(32)
            copy.write_row((codes.row_id(secret), ids[each], expires_at))
            value = signer.dumps(secret)
            made.append(f"session={value if isinstance(value, str) else value.decode()}")
    return made
