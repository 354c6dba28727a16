"""The edge to Telegram: a few calls, each of which ends within CALL_SECONDS or raises TelegramError."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from aiogram import Bot
from aiogram.client.default import DefaultBotProperties
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import PRODUCTION, TelegramAPIServer
from aiogram.exceptions import (
    AiogramError,
    ClientDecodeError,
    TelegramBadRequest,
    TelegramForbiddenError,
    TelegramRetryAfter,
)
from aiogram.types import Update
from aiogram.utils.token import TokenValidationError
from aiohttp import ClientError

from web.settings import BadSetting, Settings
from web.telegram.errors import TelegramError

T = TypeVar("T")

CALL_SECONDS = 9.0
POLL_SECONDS = 25
"""How long Telegram may hold a poll for updates open while there are none."""

GONE = re.compile("chat not found|user is deactivated|peer_id_invalid|chat_id is empty", re.IGNORECASE)
NO_CARD = re.compile("message to (edit|delete) not found|message can't be (edited|deleted)|message_id_invalid", re.I)
SAME_CARD = re.compile("message is not modified", re.IGNORECASE)


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Bot]:
    """A bot for the running event loop only. Raises BadSetting if the token is malformed."""
    api = PRODUCTION
    if settings.telegram_api_url != "https://api.telegram.org":
        api = TelegramAPIServer.from_base(settings.telegram_api_url)
    session = AiohttpSession(api=api)
    default = DefaultBotProperties(parse_mode="HTML", link_preview_is_disabled=True)
    try:
        bot = Bot(settings.telegram_bot_token or "", session=session, default=default)
    except TokenValidationError:
        raise BadSetting("TELEGRAM_BOT_TOKEN is not a token; @BotFather gives one like 123456:ABC-DEF.") from None
    try:
        yield bot
    finally:
        await session.close()


async def username(bot: Bot) -> str:
    """The bot's own username, without the @."""
    me = await _call(bot.get_me)
    return me.username or ""


async def send(bot: Bot, chat_id: int, html: str) -> int:
    """Returns Telegram's id of the message."""
    sent = await _call(lambda: bot.send_message(chat_id, html))
    return sent.message_id


async def edit(bot: Bot, chat_id: int, card_id: int, html: str) -> bool:
    """Replace a card's text. Returns False if the card can no longer be edited."""
    try:
        await _call(lambda: bot.edit_message_text(html, chat_id=chat_id, message_id=card_id))
    except TelegramError as error:
        if NO_CARD.search(str(error)):
            return False
        if not SAME_CARD.search(str(error)):
            raise
    return True


async def delete(bot: Bot, chat_id: int, card_id: int) -> None:
    """Delete a card, unless it is already gone or too old to be deleted."""
    try:
        await _call(lambda: bot.delete_message(chat_id, card_id))
    except TelegramError as error:
        if not NO_CARD.search(str(error)):
            raise


async def updates(bot: Bot, after: int | None) -> list[Update]:
    """What people wrote to the bot after update `after`, which this confirms. Waits up to POLL_SECONDS."""
    offset = None if after is None else after + 1
    poll = bot.get_updates
    return await _call(
        lambda: poll(offset, timeout=POLL_SECONDS, allowed_updates=["message"], request_timeout=POLL_SECONDS + 10),
        within=POLL_SECONDS + CALL_SECONDS,
    )


async def _call(method: Callable[[], Awaitable[T]], within: float = CALL_SECONDS) -> T:
    try:
        # aiogram's own timeout covers one HTTP request, without looking up the host and connecting to it.
        async with asyncio.timeout(within):
            return await method()
    except TelegramRetryAfter as error:
        words = f"Telegram demands a pause of {error.retry_after} seconds."
        raise TelegramError(words, retry_after=error.retry_after) from error
    except TelegramForbiddenError as error:
        raise TelegramError(_words(error), permanent=True) from error
    except TelegramBadRequest as error:
        raise TelegramError(_words(error), permanent=bool(GONE.search(error.message))) from error
    except ClientDecodeError as error:
        raise TelegramError("Telegram's answer was not valid.") from error
    except TimeoutError as error:
        raise TelegramError(f"Telegram did not answer within {within:.0f} seconds.") from error
    except AiogramError as error:
        raise TelegramError(_words(error)) from error
    # TypeError: aiogram searches the description of an error, even if there is none.
    except (ClientError, OSError, ValueError, TypeError) as error:
        raise TelegramError(f"Telegram cannot be reached: {error!r}.") from error


def _words(error: AiogramError) -> str:
    """The error's description, without the links to documentation that aiogram appends."""
    message = getattr(error, "message", None) or str(error)
    return f"Telegram says: {message.splitlines()[0].removeprefix('Forbidden: ').removeprefix('Bad Request: ')}."
