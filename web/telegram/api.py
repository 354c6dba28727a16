"""The edge to Telegram: a few calls, each of which ends within CALL_SECONDS or raises TelegramError."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, cast

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
from aiogram.methods import TelegramMethod
from aiogram.methods.base import TelegramType
from aiogram.types import Update
from aiogram.utils.token import TokenValidationError
from aiohttp import ClientError, ClientTimeout
from prometheus_client import Counter

from web.settings import BadSetting, Settings
from web.telegram.errors import TelegramError

T = TypeVar("T")

CALL_SECONDS = 9.0
POLL_SECONDS = 25
"""How long Telegram may hold a poll for updates open while there are none."""

GONE = re.compile("chat not found|user is deactivated|peer_id_invalid|chat_id is empty", re.IGNORECASE)
NO_CARD = re.compile("message to (edit|delete) not found|message can't be (edited|deleted)|message_id_invalid", re.I)
SAME_CARD = re.compile("message is not modified", re.IGNORECASE)


CALLS = Counter("knock_telegram_calls", "Calls to Telegram, by method and status, or none", ["method", "status"])
PAUSES = Counter("knock_telegram_pause_seconds", "Seconds for which Telegram demanded not to be called")


class _Session(AiohttpSession):
    """Follows no redirects: a loop of them would end in an error that quotes the address, which holds the token."""

    async def make_request(
        self,
        bot: Bot,
        method: TelegramMethod[TelegramType],
        timeout: int | None = None,  # noqa: ASYNC109  # aiogram calls it so
    ) -> TelegramType:
        session = await self.create_session()
        status = "none"
        try:
            async with session.post(
                self.api.api_url(bot.token, method.__api_method__),
                data=self.build_form_data(bot, method),
                timeout=ClientTimeout(timeout or self.timeout),
                allow_redirects=False,
            ) as answer:
                content = await answer.text()
                status = str(answer.status)
        finally:
            CALLS.labels(method.__api_method__, status).inc()
        return cast(TelegramType, self.check_response(bot, method, answer.status, content).result)


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Bot]:
    """A bot for the running event loop only. Raises BadSetting if the token is malformed."""
    api = PRODUCTION
    if settings.telegram_api_url != "https://api.telegram.org":
        api = TelegramAPIServer.from_base(settings.telegram_api_url)
    session = _Session(api=api)
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
    me = await _call(bot, bot.get_me)
    return me.username or ""


async def send(bot: Bot, chat_id: int, html: str) -> int:
    """Returns Telegram's id of the message."""
    sent = await _call(bot, lambda: bot.send_message(chat_id, html))
    return sent.message_id


async def edit(bot: Bot, chat_id: int, card_id: int, html: str) -> bool:
    """Replace a card's text. Returns False if the card can no longer be edited."""
    try:
        await _call(bot, lambda: bot.edit_message_text(html, chat_id=chat_id, message_id=card_id))
    except TelegramError as error:
        if NO_CARD.search(str(error)):
            return False
        if not SAME_CARD.search(str(error)):
            raise
    return True


async def delete(bot: Bot, chat_id: int, card_id: int) -> None:
    """Delete a card, unless it is already gone or too old to be deleted."""
    try:
        await _call(bot, lambda: bot.delete_message(chat_id, card_id))
    except TelegramError as error:
        if not NO_CARD.search(str(error)):
            raise


async def updates(bot: Bot, after: int | None) -> list[Update]:
    """What people wrote to the bot after update `after`, which this confirms. Waits up to POLL_SECONDS."""
    offset = None if after is None else after + 1
    poll = bot.get_updates
    return await _call(
        bot,
        lambda: poll(offset, timeout=POLL_SECONDS, allowed_updates=["message"], request_timeout=POLL_SECONDS + 10),
        within=POLL_SECONDS + CALL_SECONDS,
    )


async def _call(bot: Bot, method: Callable[[], Awaitable[T]], within: float = CALL_SECONDS) -> T:
    try:
        # aiogram's own timeout covers one HTTP request, without looking up the host and connecting to it.
        async with asyncio.timeout(within):
            return await method()
    except TimeoutError:
        failure = TelegramError(f"Telegram did not answer within {within:.0f} seconds.")
    # TypeError: aiogram searches the description of an error, even if there is none.
    except (AiogramError, ClientError, OSError, ValueError, TypeError) as error:
        failure = _failure(error, bot.token)
    # Outside `except`: a traceback would show the error behind it too, with the token in it.
    raise failure


def _failure(error: Exception, token: str) -> TelegramError:
    """Any error as ours, in words that may be logged, kept and shown."""

    def words(prefix: str, text: str) -> str:
        # Only the part that is secret: however the rest of an address is written, it is found.
        return f"{prefix}: {text.replace(token.partition(':')[2], '…')}."

    match error:
        case TelegramRetryAfter():
            PAUSES.inc(error.retry_after)
            return TelegramError(
                f"Telegram demands a pause of {error.retry_after} seconds.", retry_after=error.retry_after
            )
        case ClientDecodeError():
            return TelegramError("Telegram's answer was not valid.")
        case AiogramError():
            # Without the links to documentation that aiogram appends.
            said = (getattr(error, "message", None) or str(error)).splitlines()[0]
            is_gone = isinstance(error, TelegramBadRequest) and bool(GONE.search(said))
            return TelegramError(
                words("Telegram says", said.removeprefix("Forbidden: ").removeprefix("Bad Request: ")),
                permanent=is_gone or isinstance(error, TelegramForbiddenError),
            )
        case _:
            return TelegramError(words("Telegram cannot be reached", repr(error)))
