"""The bot's answers: at most one a second to a chat, however much is written there."""

import asyncio
import logging

from aiogram import Bot

from web.telegram import api
from web.telegram.errors import TelegramError

log = logging.getLogger(__name__)

PERIOD = 1.0


class Answers:
    """Of the answers that would come too soon only the last is sent, when the second is over."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._waiting: dict[int, str | None] = {}
        """The chats that were answered within the last second, each with the answer that is to come next."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def give(self, chat_id: int, html: str) -> None:
        """Send it, now or soon. It may get lost."""
        if chat_id in self._waiting:
            self._waiting[chat_id] = html
            return
        self._waiting[chat_id] = None
        await self._send(chat_id, html)
        task = asyncio.create_task(self._send_later(chat_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_later(self, chat_id: int) -> None:
        try:
            await asyncio.sleep(PERIOD)
            while html := self._waiting[chat_id]:
                self._waiting[chat_id] = None
                await self._send(chat_id, html)
                await asyncio.sleep(PERIOD)
        finally:
            del self._waiting[chat_id]

    async def _send(self, chat_id: int, html: str) -> None:
        try:
            await api.send(self._bot, chat_id, html)
        except TelegramError as error:
            log.warning("A reply could not be sent: %s", error)
