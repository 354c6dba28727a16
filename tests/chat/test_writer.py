"""What is written while PostgreSQL is busy: one transaction, one frame, and nobody pays for another's message."""

import psycopg

from tests.site import Person, Tab, messages


def test_what_was_written_meanwhile_comes_in_one_frame(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    with alice.socket() as hers, bob.socket() as his:
        _write_while_postgresql_is_busy(postgres, hers, his, [f"held up {n}" for n in range(30)])

        frames: list[list[str]] = []
        while sum(map(len, frames)) < 30:
            frames.append([message.body for message in messages(his.frame())])

    assert [body for frame in frames for body in frame] == [f"held up {n}" for n in range(30)]
    assert len([frame for frame in frames if frame]) <= 2  # one transaction was under way, the rest became the next


def test_a_message_that_cannot_be_kept_takes_no_other_with_it(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    postgres.execute("ALTER TABLE messages ADD CONSTRAINT no_bad_ones CHECK (body <> 'bad')")
    try:
        with alice.socket() as hers, bob.socket() as his:
            bodies = [f"good {n}" for n in range(29)]
            _write_while_postgresql_is_busy(postgres, hers, his, [*bodies[:17], "bad", *bodies[17:]])

            assert [his.message().body for _ in bodies] == bodies
            assert "This message could not be kept." in hers.refusal().get_text()
    finally:
        postgres.execute("ALTER TABLE messages DROP CONSTRAINT no_bad_ones")


def _write_while_postgresql_is_busy(postgres: psycopg.Connection, hers: Tab, his: Tab, bodies: list[str]) -> None:
    """Alice writes to Bob, whose chat is locked until all of it has been read from her socket."""
    hers.write("bob", "first")
    assert his.message().body == "first"
    with postgres.transaction():
        postgres.execute("SELECT * FROM conversations FOR UPDATE")
        for body in bodies:
            hers.write("bob", body)
        hers.send(action="typing", to="bob")
        while "alice is typing" not in his.frame().text:
            pass
