"""What Telegram refuses, delays or garbles, and what becomes of the notification then."""

import asyncio
import time
from typing import Any

import pytest

from tests.site import eventually
from tests.telegram import bot_api
from tests.telegram.bot_api import FakeTelegram
from tests.telegram.fixtures import PATIENCE, Knock
from web import settings
from web.telegram import api
from web.telegram.errors import TelegramError

ENVIRON = {
    "DATABASE_URL": "postgresql://nowhere",
    "REDIS_URL": "redis://nowhere",
    "SECRET_KEY": "x" * 32,
    "TELEGRAM_BOT_TOKEN": bot_api.TOKEN,
}


def test_a_pause_that_telegram_asks_for_is_kept_to_the_second(knock: Knock) -> None:
    alice, dora = knock.person("alice"), knock.person("dora")
    bob, chat = knock.absent("bob")
    knock.telegram.order({"retry_after": 4}, chat_id=chat)

    alice.post("bob", "hello")
    eventually(lambda: knock.telegram.called(chat_id=chat), PATIENCE)
    refused_at = knock.telegram.called(chat_id=chat)[0].at
    dora.post("bob", "and from me, on another card")

    assert knock.settled(bob) == ["sent", "sent"]
    assert [call.status for call in knock.telegram.called(chat_id=chat)] == [429, 200, 200]
    assert all(call.at >= refused_at + 4.0 for call in knock.telegram.called(chat_id=chat)[1:])


@pytest.mark.parametrize(
    ("status", "description", "said"),
    [
        (403, "Forbidden: bot was blocked by the user", "bot was blocked by the user"),
        (403, "Forbidden: user is deactivated", "user is deactivated"),
        (400, "Bad Request: chat not found", "chat not found"),
    ],
)
def test_who_blocked_the_bot_is_unlinked_after_one_call_and_sees_that_on_the_site(
    knock: Knock, status: int, description: str, said: str
) -> None:
    alice, dora = knock.person("alice"), knock.person("dora")
    bob, chat = knock.absent("bob")
    knock.telegram.refuse(status, description, chat_id=chat, times=0)

    alice.post("bob", "hello")
    assert knock.settled(bob) == ["failed"]
    dora.post("bob", "hello too")
    time.sleep(2)

    assert len(knock.telegram.called(chat_id=chat)) == 1
    assert knock.user(bob, "telegram_chat_id") is None
    bob.log_in()
    page = bob.page("/settings").one("#telegram").get_text()
    assert "Telegram was disconnected" in page
    assert said in page


@pytest.mark.parametrize(
    "garbage", [{"html": 502}, {"status": 500, "description": "Internal Server Error"}, {"html": 200}]
)
def test_an_answer_that_is_none_is_asked_for_again(knock: Knock, garbage: dict[str, Any]) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    knock.telegram.order(garbage, chat_id=chat, times=2)

    alice.post("bob", "hello")

    assert knock.settled(bob) == ["sent"]
    assert knock.rows(bob, "attempts") == [3]
    assert len(knock.telegram.called(chat_id=chat)) == 3
    assert knock.user(bob, "telegram_chat_id") == chat


def test_after_eight_tries_it_has_failed_and_the_user_stays_linked(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    knock.telegram.order({"html": 502}, chat_id=chat, times=0)

    alice.post("bob", "hello")
    for tried in range(1, 9):
        refused = [(tried, True)]
        eventually(lambda refused=refused: knock.rows(bob, "attempts, problem IS NOT NULL") == refused, PATIENCE)  # type: ignore[misc]
        knock.hurry()
    assert knock.settled(bob) == ["failed"]
    knock.hurry()
    time.sleep(1.5)

    assert len(knock.telegram.called(chat_id=chat)) == 8
    assert knock.user(bob, "telegram_chat_id") == chat


def test_a_call_that_hangs_is_over_in_ten_seconds_and_holds_up_nobody_else(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    charlie, other_chat = knock.absent("charlie")
    knock.telegram.order({"hang": 60}, chat_id=chat)

    alice.post("bob", "hello")
    eventually(lambda: knock.telegram.called(chat_id=chat), PATIENCE)
    alice.post("charlie", "hello")

    assert knock.settled(charlie, patience=8) == ["sent"]
    eventually(lambda: knock.rows(bob, "attempts, problem") == [(1, "Telegram did not answer within 9 seconds.")], 12)
    assert knock.settled(bob) == ["sent"]
    assert knock.telegram.called(chat_id=other_chat)


@pytest.mark.parametrize(
    ("answer", "permanent", "retry_after", "words"),
    [
        ({"retry_after": 7}, False, 7, "a pause of 7 seconds"),
        ({"status": 403, "description": "Forbidden: bot was blocked by the user"}, True, None, "bot was blocked"),
        ({"status": 400, "description": "Bad Request: chat not found"}, True, None, "chat not found"),
        ({"status": 400, "description": "Bad Request: can't parse entities"}, False, None, "can't parse entities"),
        ({"status": 401, "description": "Unauthorized"}, False, None, "Unauthorized"),
        ({"status": 500, "description": "Internal Server Error"}, False, None, "Internal Server Error"),
        ({"status": 503, "description": None}, False, None, "Telegram"),
        ({"html": 502}, False, None, "not one of the Bot API's"),
        ({"html": 403}, False, None, "not one of the Bot API's"),
    ],
)
def test_every_failure_is_one_exception(
    answer: dict[str, Any], permanent: bool, retry_after: float | None, words: str
) -> None:
    with bot_api.running() as fake:
        fake.order(answer)
        error = _failure(fake.url)

    assert (error.permanent, error.retry_after) == (permanent, retry_after)
    assert words in str(error)


def test_a_telegram_that_is_not_there_is_a_failure_too() -> None:
    error = _failure("http://127.0.0.1:9")

    assert (error.permanent, error.retry_after) == (False, None)


def test_a_call_that_hangs_ends_in_ten_seconds() -> None:
    with bot_api.running() as fake:
        fake.order({"hang": 60})
        started = time.monotonic()
        error = _failure(fake.url)

    assert 8.5 < time.monotonic() - started < 10.5
    assert "did not answer" in str(error)


def test_cards_that_are_gone_are_nothing_to_fail_for() -> None:
    async def edit_and_delete(fake: FakeTelegram) -> tuple[bool, bool, bool]:
        async with api.connect(settings.read({**ENVIRON, "TELEGRAM_API_URL": fake.url})) as bot:
            card_id = await api.send(bot, 7, "text")
            same = await api.edit(bot, 7, card_id, "text")
            other = await api.edit(bot, 7, card_id, "another text")
            await api.delete(bot, 7, card_id)
            await api.delete(bot, 7, card_id)
            return same, other, await api.edit(bot, 7, card_id, "a third text")

    with bot_api.running() as fake:
        assert asyncio.run(edit_and_delete(fake)) == (True, True, False)


def _failure(url: str) -> TelegramError:
    async def send() -> None:
        async with api.connect(settings.read({**ENVIRON, "TELEGRAM_API_URL": url})) as bot:
            await api.send(bot, 7, "text")

    with pytest.raises(TelegramError) as raised:
        asyncio.run(send())
    return raised.value
