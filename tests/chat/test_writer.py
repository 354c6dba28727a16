"""What is sent while PostgreSQL is busy: one transaction, one frame, and no message takes another with it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from tests import site as sites
from tests.site import Page, Person, Tab, eventually, messages
from web.chat import writer


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


def test_a_message_that_another_process_commits_meanwhile_is_the_answer(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    alice.post("bob", "first")
    with ThreadPoolExecutor() as threads:
        with _locked(postgres):
            again = threads.submit(
                alice.http.post,
                "/chat/bob/messages",
                data={"body": "once", "nonce": "n"},
                headers={"HX-Request": "true"},
            )
            eventually(lambda: _waiting(postgres))
            postgres.execute(
                "INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at)"
                " SELECT conversation_id, 2, 2, author_id, 'n', 'once', now() FROM messages"
            )
            postgres.execute("UPDATE conversations SET version = 2, last_seq = 2")

        assert again.result().status_code == 200
        assert 'data-seq="2"' in again.result().text
    assert bob.page("/chat/alice").bodies == ["first", "once"]


def test_a_message_beyond_the_queue_is_refused_and_kept_by_its_author(
    environ: dict[str, str], clean: None, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE", 3)
    with sites.in_this_process(environ) as site:
        alice, bob = site.person("alice"), site.person("bob")
        with alice.socket() as hers, bob.socket() as his:
            hers.write("bob", "first")
            assert hers.message() == his.message()
            with _locked(postgres):
                hers.write("bob", "in a transaction")
                eventually(lambda: _waiting(postgres))
                for n in range(3):
                    hers.write("bob", f"in the queue {n}")
                nonce = hers.write("bob", "too many")

                refusal = hers.refusal()
                assert (refusal["data-nonce"], refusal.has_attr("data-retry")) == (nonce, True)
                assert "Too many messages are waiting" in refusal.get_text()
                answer = alice.post("bob", "keep this", nonce="n")
                page = Page(answer)
                assert (page.status, answer.headers["retry-after"]) == (503, "3")
                assert page.one("textarea").get_text().strip() == "keep this"
                assert page.one("input[name=nonce]")["value"] == "n"

            bodies = [his.message().body for _ in range(4)]
            assert bodies == ["in a transaction", "in the queue 0", "in the queue 1", "in the queue 2"]
            assert alice.post("bob", "keep this", nonce="n").status_code == 303
            assert his.message().body == "keep this"


@contextmanager
def _locked(postgres: psycopg.Connection) -> Iterator[None]:
    """The only conversation is locked, as by another process that writes to it."""
    with postgres.transaction():
        postgres.execute("SELECT * FROM conversations FOR UPDATE")
        yield


def _waiting(postgres: psycopg.Connection) -> bool:
    """Whether somebody waits for a lock."""
    query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(postgres.execute(query).fetchall())


def _write_while_postgresql_is_busy(postgres: psycopg.Connection, hers: Tab, his: Tab, bodies: list[str]) -> None:
    """Alice writes to Bob, whose chat is locked until all of it has been read from her socket."""
    hers.write("bob", "first")
    assert his.message().body == "first"
    with _locked(postgres):
        for body in bodies:
            hers.write("bob", body)
        hers.send(action="typing", to="bob")
        while "alice is typing" not in his.frame().text:
            pass
