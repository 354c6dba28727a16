"""The bot, `python -m web.telegram.bot`: polls Telegram for what people write to it, and links users.

It has a loop of its own instead of aiogram's. The changes of an update are committed together with the cursor that
marks it as handled, before the next poll confirms it to Telegram; so a bot that is killed at any point handles each
update exactly once. Only the reply, which is sent after the commit, may get lost.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable
from typing import TypeVar

from aiogram import Bot
from aiogram.types import Message, Update
from sqlalchemy.ext.asyncio import AsyncSession

from web import log, settings, words
from web.data import postgres
from web.data.postgres import DATABASE_AWAY, Database
from web.server import CannotStart, heartbeat
from web.settings import BadSetting, Settings
from web.telegram import api, linking, polling, replies
from web.telegram.answers import Answers
from web.telegram.errors import TelegramError
from web.telegram.linking import Account

T = TypeVar("T")

logger = logging.getLogger(__name__)

PAUSE = 1.0
LONGEST_PAUSE = 30.0


class Stopped(Exception):
    """The process is to end."""


class Listener:
    """One bot's loop."""

    def __init__(self, bot: Bot, db: Database, site_url: str, stop: asyncio.Event) -> None:
        self._bot = bot
        self._answers = Answers(bot)
        self._db = db
        self._site_url = site_url
        self._stop = stop

    async def listen(self, turn: polling.Turn) -> None:
        """Handle updates as long as the turn is this bot's. Raises Stopped and DATABASE_AWAY's errors."""
        after: int | None = None
        pause = PAUSE
        while True:
            await turn.confirm()
            try:
                updates = await self._unless_stopped(api.updates(self._bot, after))
                pause = PAUSE
                heartbeat.beat()
            except TelegramError as error:
                logger.warning("No updates from Telegram: %s", error)
                await self._unless_stopped(asyncio.sleep(error.retry_after or pause))
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            # After a week without updates their ids may restart lower, and an offset that is kept would skip those:
            # https://core.telegram.org/bots/api#update
            after = updates[-1].update_id if updates else None
            for update in updates:
                if self._stop.is_set():
                    raise Stopped
                await self._handle(update)

    async def _handle(self, update: Update) -> None:
        """Handle an update, once."""
        reply = None
        try:
            async with self._db.begin() as db:
                if await polling.is_new(db, self._bot.id, update.update_id):
                    with words.speaking(_language(update.message)):
                        reply = await self._act(db, update.message)
        except DATABASE_AWAY:
            raise
        except Exception:
            # It would come again for ever and hold up the updates behind it.
            logger.exception("Update %d is skipped", update.update_id)
            async with self._db.begin() as db:
                await polling.is_new(db, self._bot.id, update.update_id)
        if reply and update.message:
            await self._answers.give(update.message.chat.id, reply)

    async def _act(self, db: AsyncSession, message: Message | None) -> str | None:
        """Do what a message says. Returns the reply, if any."""
        if message is None or message.chat.type != "private":
            return None
        chat_id = message.chat.id
        command, _, argument = (message.text or "").replace("\0", "").strip().partition(" ")
        if command == "/start" and argument:
            username = await linking.use_code(db, argument.strip(), _account(message))
            return replies.linked(username) if username else replies.stale(self._site_url)
        if command == "/start":
            await linking.expect_username(db, _account(message))
            return replies.asked()
        if command == "/stop":
            await linking.stop(db, chat_id)
            return replies.stopped()
        if command and not command.startswith("/"):
            number = await linking.name_user(db, chat_id, f"{command} {argument}".strip())
            if number is not None:
                return replies.requested(self._site_url, number)
        return replies.help(self._site_url)

    async def _unless_stopped(self, doing: Awaitable[T]) -> T:
        task, stop = asyncio.ensure_future(doing), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Stopped
            return task.result()
        finally:
            task.cancel()
            stop.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)


def _language(message: Message | None) -> str:
    """Of their Telegram, as far as it is one of ours."""
    return words.preferred((message and message.from_user and message.from_user.language_code) or "")


def _account(message: Message) -> Account:
    person = message.from_user
    return Account(message.chat.id, person.full_name if person else "unknown", person.username if person else None)


async def run(chosen: Settings, stop: asyncio.Event) -> None:
    """Listen until `stop` is set, also after PostgreSQL was away. Raises BadSetting."""
    async with api.connect(chosen) as bot, postgres.connect(chosen) as engine:
        listener = Listener(bot, postgres.database(engine), chosen.site_url, stop)
        while not stop.is_set():
            try:
                async with polling.turn(engine, bot.id, stop) as turn:
                    if turn is not None:
                        await listener.listen(turn)
            except Stopped:
                return
            except DATABASE_AWAY as error:
                logger.warning("PostgreSQL is away, and the bot waits for it: %s", error)
                await polling.pause(stop, PAUSE)


async def main() -> int:
    chosen = settings.load()
    log.configure(chosen)
    if not chosen.telegram_bot_token:
        logger.warning("TELEGRAM_BOT_TOKEN is not set, so there is no bot to run")
        return 0
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    try:
        with heartbeat.serving(chosen, offset=1):
            await run(chosen, stop)
    except (BadSetting, CannotStart) as error:
        print(f"knock: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
