"""What Telegram refuses, delays or garbles."""

import asyncio
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


def test_who_blocked_the_bot_sees_that_on_the_site(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    knock.telegram.refuse(403, "Forbidden: bot was blocked by the user", chat_id=chat, times=0)

    alice.post("bob", "hello")
    assert knock.settled(bob) == ["failed"]

    bob.log_in()
    page = bob.page("/settings").one("#telegram").get_text()
    assert "Telegram was disconnected" in page
    assert "bot was blocked by the user" in page


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
        ({"html": 502}, False, None, "answer was not valid"),
        ({"html": 403}, False, None, "answer was not valid"),
    ],
)
def test_every_failure_is_one_exception(
    fake: FakeTelegram, answer: dict[str, Any], permanent: bool, retry_after: float | None, words: str
) -> None:
    fake.order(answer)

    error = failure(fake.url)

    assert (error.permanent, error.retry_after) == (permanent, retry_after)
    assert words in str(error)


def test_a_telegram_that_is_not_there_is_a_failure_too() -> None:
    error = failure("http://127.0.0.1:9")

    assert (error.permanent, error.retry_after) == (False, None)


def test_cards_that_are_gone_are_no_failure(fake: FakeTelegram) -> None:
    async def edit_and_delete() -> tuple[bool, bool, bool]:
        async with api.connect(settings.read({**ENVIRON, "TELEGRAM_API_URL": fake.url})) as bot:
            card_id = await api.send(bot, 7, "text")
            same = await api.edit(bot, 7, card_id, "text")
            other = await api.edit(bot, 7, card_id, "another text")
            await api.delete(bot, 7, card_id)
            await api.delete(bot, 7, card_id)
            return same, other, await api.edit(bot, 7, card_id, "a third text")

    assert asyncio.run(edit_and_delete()) == (True, True, False)


def failure(url: str) -> TelegramError:
    """What comes of a message to the Bot API there, which refuses it."""

    async def send() -> None:
        async with api.connect(settings.read({**ENVIRON, "TELEGRAM_API_URL": url})) as bot:
            await api.send(bot, 7, "text")

    with pytest.raises(TelegramError) as raised:
        asyncio.run(send())
    return raised.value
