"""The way of one notification: read again, claimed, told to Telegram, marked."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from aiogram import Bot
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncSession

from web.data.models import User
from web.data.postgres import DATABASE_AWAY, Database
from web.data.store import TIMEOUT
from web.live import presence
from web.live.presence import Presence
from web.notifications import cards, outbox
from web.notifications.outbox import Claim
from web.telegram import api, linking
from web.telegram.errors import TelegramError

log = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that one call waits for another to the same chat."""
MARK_SECONDS = 8.0
"""With a call to Telegram before it, still within the claim's lease."""


@dataclass(frozen=True)
class Sender:
    """What a worker process tells with; `bot` is None while Telegram is off."""

    db: Database
    redis: Redis
    bot: Bot | None
    site_url: str
    _chats: WeakValueDictionary[int, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def send(self, notification_id: int) -> None:
        """Tell of this row, unless something speaks against it. Raises DBAPIError where PostgreSQL is away."""
        async with self.db() as db:
            row = await outbox.find(db, notification_id)
        if row is None:
            return
        if self.bot is None or row.chat_id is None:
            async with self.db.begin() as db:
                await outbox.cancel(db, row.id, "no Telegram account is linked, or Telegram is off")
            return
        presence_now = await self._presence(row.user_id)
        async with self._only_call_to(row.chat_id) as alone:
            async with self.db.begin() as db:
                if not alone:
                    await outbox.postpone(db, row.id, "another one is being told to this chat")
                    return
                claim = await outbox.claim(db, row.id, presence_now)
            if claim is not None:
                await self._speak(self.bot, claim)

    async def test(self, user_id: int) -> str:
        """Send the message of the settings page's button. Returns what Telegram did with it, in a word."""
        async with self.db() as db:
            user = await db.get_one(User, user_id)
        chat_id = user.telegram_chat_id
        if self.bot is None or chat_id is None:
            return "failed"
        async with self._only_call_to(chat_id) as alone:
            if not alone or (user.telegram_not_before and user.telegram_not_before > datetime.now(UTC)):
                return "pause"
            try:
                await api.send(self.bot, chat_id, cards.test(user.username))
            except TelegramError as error:
                log.warning("A test message: %s", error)
                async with self.db.begin() as db:
                    await _obey(db, chat_id, error)
                return "closed" if error.permanent else "pause" if error.retry_after is not None else "failed"
        return "sent"

    async def _presence(self, user_id: int) -> Presence:
        try:
            async with asyncio.timeout(TIMEOUT):
                return await presence.look(self.redis, user_id)
        except (RedisError, OSError) as error:
            # Better a knock too many than none.
            log.warning("Redis does not say who is away, so everybody is: %s", error)
            return presence.AWAY

    @asynccontextmanager
    async def _only_call_to(self, chat_id: int) -> AsyncIterator[bool]:
        """Hold the chat, so that what one call is refused for is known before the next; False where it stays held."""
        lock = self._chats.setdefault(chat_id, asyncio.Lock())
        try:
            async with asyncio.timeout(PATIENCE):
                await lock.acquire()
        except TimeoutError:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    async def _speak(self, bot: Bot, claim: Claim) -> None:
        html = cards.knock(self.site_url, claim.author, claim.bodies, claim.earlier)
        try:
            card_id = claim.card_id
            if card_id is None or not await api.edit(bot, claim.chat_id, card_id, html):
                card_id = await api.send(bot, claim.chat_id, html)
        except TelegramError as error:
            await self._refused(claim, error)
            return
        for old_card_id in await self._mark_sent(claim, card_id):
            await self._take_away(bot, claim, old_card_id)

    async def _mark_sent(self, claim: Claim, card_id: int) -> Sequence[int]:
        """Mark the row, if need be when PostgreSQL is back: without the mark the user would be told twice."""
        until = time.monotonic() + MARK_SECONDS
        while True:
            try:
                async with self.db.begin() as db:
                    return await outbox.mark_sent(db, claim, card_id)
            except DATABASE_AWAY:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(0.5)

    async def _refused(self, claim: Claim, error: TelegramError) -> None:
        log.warning("Notification %d, try %d: %s", claim.id, claim.attempts, error)
        async with self.db.begin() as db:
            await outbox.refused(db, claim, error)
            await _obey(db, claim.chat_id, error)

    async def _take_away(self, bot: Bot, claim: Claim, card_id: int) -> None:
        """Delete an older card; where Telegram will not now, the next card tries again."""
        try:
            await api.delete(bot, claim.chat_id, card_id)
        except TelegramError as error:
            log.warning("A card of notification %d stays: %s", claim.id, error)
            async with self.db.begin() as db:
                await _obey(db, claim.chat_id, error)
            return
        async with self.db.begin() as db:
            await outbox.taken_away(db, claim, card_id)


async def _obey(db: AsyncSession, chat_id: int, error: TelegramError) -> None:
    """Leave the chat alone: for as long as Telegram says, or until its owner links it again."""
    if error.permanent:
        await linking.lose(db, chat_id, str(error))
    if error.retry_after is not None:
        await outbox.hush(db, chat_id, error.retry_after)
