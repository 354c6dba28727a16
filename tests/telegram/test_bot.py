"""The bot: what people write to it, and that it handles each update once whatever happens to it."""

import asyncio
import hashlib
import logging
import re
import time

import psycopg
import pytest

from tests.site import eventually
from tests.telegram.fixtures import BOT, PATIENCE, Knock, Program
from web.telegram import bot


def answers(knock: Knock, chat_id: int) -> list[str]:
    return [call.parameters["text"] for call in knock.telegram.called("sendMessage", chat_id=chat_id)]


def write(knock: Knock, chat_id: int, *texts: str, **more: str) -> list[str]:
    """Somebody writes to the bot. Returns its new answers."""
    before = len(answers(knock, chat_id))
    for text in texts:
        knock.telegram.write(chat_id, text, **more)
    eventually(lambda: len(answers(knock, chat_id)) == before + len(texts), PATIENCE)
    return answers(knock, chat_id)[before:]


def code_for(knock: Knock, username: str, code: str) -> str:
    row_id = hashlib.sha256(code.encode()).digest()
    knock.postgres.execute(
        "WITH session AS (INSERT INTO sessions (id, user_id, expires_at)"
        " SELECT %s, id, now() + interval '1 day' FROM users WHERE username = %s RETURNING id, user_id)"
        " INSERT INTO telegram_codes (id, user_id, session_id, expires_at)"
        " SELECT %s, user_id, id, now() + interval '10 minutes' FROM session",
        [row_id, username, row_id],
    )
    return code


def test_start_with_a_code_links_at_once_and_once(knock: Knock) -> None:
    bob = knock.person("bob")
    code = code_for(knock, "bob", "the-code-of-bob")

    (answer,) = write(knock, 501, f"/start {code}", username="bobby")

    assert "Connected" in answer
    assert "bob" in answer
    assert knock.user(bob, "telegram_chat_id") == 501
    assert (knock.user(bob, "telegram_name"), knock.user(bob, "telegram_username")) == ("Somebody", "bobby")
    (again,) = write(knock, 502, f"/start {code}")
    assert "used up" in again
    assert knock.user(bob, "telegram_chat_id") == 501


def test_a_username_links_nothing_and_the_answer_does_not_depend_on_who_has_it(knock: Knock) -> None:
    bob = knock.person("bob")

    known = write(knock, 503, "/start", "BOB")
    unknown = write(knock, 504, "/start", "nobody-here")
    garbled = write(knock, 505, "/start", "'; DROP TABLE users; --\0")

    numbers = [re.sub(r"\d{4}", "0000", said) for _, said in (known, unknown, garbled)]
    assert numbers[0] == numbers[1] == numbers[2]
    assert "number is <b>0000</b>" in numbers[0]
    assert known[0] == unknown[0] == garbled[0]
    assert knock.user(bob, "telegram_chat_id") is None
    rows = knock.postgres.execute("SELECT chat_id, user_id FROM telegram_requests ORDER BY 1").fetchall()
    assert rows == [(503, knock.user(bob, "id")), (504, None), (505, None)]


def test_only_what_comes_after_start_is_a_username(knock: Knock) -> None:
    knock.person("bob")

    unasked = write(knock, 506, "bob")
    write(knock, 506, "/start")
    write(knock, 506, "bob")
    typed_again = write(knock, 506, "bob")

    assert unasked == typed_again
    assert "/start" in unasked[0]


def test_stop_unlinks_everybody_of_that_chat_and_nobody_else(knock: Knock) -> None:
    bob, dora, charlie = knock.person("bob"), knock.person("dora"), knock.person("charlie")
    for person, chat_id in ((bob, 507), (dora, 507), (charlie, 508)):
        knock.change(person, telegram_chat_id=chat_id)
    write(knock, 507, "/start", "charlie")

    write(knock, 507, "/stop")

    assert [knock.user(person, "telegram_chat_id") for person in (bob, dora, charlie)] == [None, None, 508]
    assert knock.postgres.execute("SELECT count(*) FROM telegram_requests").fetchone() == (0,)


def test_a_group_gets_no_answer(knock: Knock) -> None:
    bob = knock.person("bob")
    code = code_for(knock, "bob", "a-code-in-a-group")

    knock.telegram.write(509, f"/start {code}", chat_type="group")
    write(knock, 510, "hello")  # which comes after it

    assert answers(knock, 509) == []
    assert knock.user(bob, "telegram_chat_id") is None


def test_an_answer_that_telegram_refuses_stops_nothing(knock: Knock) -> None:
    bob = knock.person("bob")
    code = code_for(knock, "bob", "a-code-of-a-blocked-chat")
    knock.telegram.refuse(403, "Forbidden: bot was blocked by the user", chat_id=511)

    knock.telegram.write(511, f"/start {code}")
    write(knock, 512, "hello")

    assert knock.user(bob, "telegram_chat_id") == 511


def test_a_bot_that_is_killed_over_and_over_handles_each_update_once(knock: Knock) -> None:
    links = 200
    knock.postgres.execute(
        "INSERT INTO users (username, password_hash) SELECT 'person-' || n, 'x' FROM generate_series(1, %s) n", [links]
    )
    for number in range(1, links + 1):
        code_for(knock, f"person-{number}", f"code-{number}")
        knock.telegram.write(10_000 + number, f"/start code-{number}")

    for part in (0.3, 0.7):
        eventually(lambda part=part: _linked(knock) >= part * links, PATIENCE)  # type: ignore[misc]
        knock.bot.kill()
        assert _linked(knock) < links
        knock.bot.start()
    eventually(lambda: _linked(knock) == links, PATIENCE)

    wrong = "SELECT count(*) FROM users WHERE telegram_chat_id <> 10000 + substr(username, 8)::int"
    assert knock.postgres.execute(wrong).fetchone() == (0,)
    write(knock, 513, "hello")  # so everything before it is handled
    said = knock.telegram.called("sendMessage")
    assert not [call for call in said if "used up" in call.parameters["text"]]
    # A kill between a commit and its answer costs the answer, and nothing is answered twice.
    chats = [call.chat_id for call in said if call.status]
    assert len(chats) == len(set(chats))
    assert len(chats) >= links + 1 - 2


def test_of_two_bots_one_listens_and_the_other_takes_over(knock: Knock) -> None:
    other = Program(BOT, {**knock.environ, "METRICS_PORT": ""})
    write(knock, 514, "hello")
    other.start()
    conflicts = knock.telegram.conflicts
    try:
        # The last statement of the one that listens is another: it confirms its turn before each poll.
        waiting = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE query LIKE '%pg_try_advisory_xact_lock(hashtextextended%' AND pid <> pg_backend_pid()"
        )
        eventually(lambda: knock.postgres.execute(waiting).fetchone() == (1,), PATIENCE)
        for number in range(20):
            knock.telegram.write(515 + number, "hello")
        write(knock, 540, "hello")
        assert len(knock.telegram.called("sendMessage")) == 22
        assert knock.telegram.conflicts == conflicts

        knock.bot.kill()
        write(knock, 541, "hello")
        assert len(knock.telegram.called("sendMessage")) == 23
    finally:
        other.stop()


def test_it_goes_on_when_postgresql_is_back(knock: Knock, postgres: psycopg.Connection) -> None:
    write(knock, 542, "hello")

    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )

    write(knock, 543, "hello")


def test_an_update_that_cannot_be_handled_is_skipped(knock: Knock) -> None:
    knock.telegram.write(544, "/start", first_name="not what PostgreSQL takes: \0")

    write(knock, 545, "hello")


@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_soon_on_sigterm(knock: Knock, busy: bool) -> None:
    write(knock, 546, "hello")
    if busy:
        for number in range(100):
            knock.telegram.write(600 + number, "hello")
    started = time.monotonic()

    assert knock.bot.stop() == 0
    assert time.monotonic() - started < 10  # a poll takes 25


def test_without_a_token_it_says_so_once_and_ends_well(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(environ, monkeypatch) == 0
    assert capsys.readouterr().err.count("TELEGRAM_BOT_TOKEN") == 1


def test_a_bad_token_is_refused_in_words(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        _main({**environ, "TELEGRAM_BOT_TOKEN": "no token"}, monkeypatch)
    assert ended.value.code == 2
    assert "TELEGRAM_BOT_TOKEN" in capsys.readouterr().err


def _main(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The bot in this process, whose own log is left as it is."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.root.level)
    return asyncio.run(bot.main())


def _linked(knock: Knock) -> int:
    row = knock.postgres.execute("SELECT count(telegram_chat_id) FROM users").fetchone()
    assert row is not None
    return int(row[0])
