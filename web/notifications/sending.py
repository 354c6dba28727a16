"""Sending one notification: claim it, call Telegram and the push services, mark what became of it.

A worker without Telegram sends nothing, so only what calls Telegram imports `api`, which takes 150 MB.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncSession

from web import words
from web.data.models import PushDevice, User
from web.data.postgres import DATABASE_AWAY, Database
from web.data.store import TIMEOUT
from web.live import presence
from web.live.presence import Presence
from web.notifications import cards, mending, outbox, push
from web.notifications.mending import Mending
from web.notifications.outbox import Claim
from web.notifications.push import PushError
from web.settings import Settings
from web.telegram import linking
from web.telegram.errors import TelegramError

if TYPE_CHECKING:
    from aiogram import Bot

log = logging.getLogger(__name__)

MENDING = 1.0
"""Seconds between two looks for cards to mend."""
PATIENCE = 1.0
"""Seconds to wait while another call to the same chat is under way."""
MARK_SECONDS = 8.0
"""How long the mark is retried. Together with the call to Telegram it must fit into outbox.LEASE."""


@dataclass(frozen=True)
class Sender:
    """One per worker process; `bot` is None while Telegram is off."""

    db: Database
    redis: Redis
    bot: "Bot | None"
    settings: Settings
    announce: Callable[[int], Awaitable[None]] | None = None
    """Awaited with a conversation's id after somebody was told of messages in it."""
    _chats: WeakValueDictionary[int, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def send(self, notification_id: int) -> None:
        """Send it, unless the rules object. Raises DATABASE_AWAY's errors."""
        async with self.db() as db:
            recipient = await outbox.recipient(db, notification_id)
            devices = await push.devices(db, recipient.user_id) if recipient else []
        if recipient is None:
            return
        bot = self.bot if recipient.chat_id is not None else None
        if bot is None and not devices:
            async with self.db.begin() as db:
                await outbox.cancel(db, notification_id, "no Telegram account is linked, or Telegram is off")
            return
        presence_now = await self._presence(recipient.user_id)
        # Telegram's ids of people are positive.
        async with self._only_call_to(recipient.chat_id or -recipient.user_id) as alone:
            async with self.db.begin() as db:
                if not alone:
                    await outbox.postpone(db, notification_id, "another one is being sent to this chat")
                    return
                claim = await outbox.claim(db, notification_id, presence_now)
            if claim is not None:
                with words.speaking(recipient.language or "en"):
                    await self._tell(bot, claim, devices)

    async def _tell(self, bot: "Bot | None", claim: Claim, devices: Sequence[PushDevice]) -> None:
        """For somebody with Telegram the devices are beside it: what they miss is not tried again."""
        try:
            if devices:
                await push.tell(self.db, self.settings, claim, devices)
        except PushError as error:
            if bot is None:
                await self._mark_refused(claim, error)
                return
        if bot is not None:
            await self._send_card(bot, claim)
        else:
            await self._mark_sent(claim, None)

    async def mend_forever(self) -> None:
        """Each second, show cards as they should be whose messages have changed."""
        while True:
            with suppress(*DATABASE_AWAY):  # the sweep says so
                async with self.db.begin() as db:
                    ids = await mending.take(db)
                await asyncio.gather(*map(self._mend, ids))
            await asyncio.sleep(MENDING)

    async def _mend(self, notification_id: int) -> None:
        async with self.db() as db:
            chat_id = await mending.chat_id(db, notification_id)
        async with self._only_call_to(chat_id) as alone:
            if not alone:
                return  # it is tried again when the lease ends
            async with self.db.begin() as db:
                card = await mending.read(db, notification_id)
            if card is None:
                return
            try:
                card_id = await self._bring_up_to_date(card)
            except TelegramError as error:
                log.warning("The card of notification %d is not mended: %s", notification_id, error)
                async with self.db.begin() as db:
                    await _obey(db, card.chat_id, error)
                return
            async with self.db.begin() as db:
                await mending.mark_mended(db, card, card_id)

    async def _bring_up_to_date(self, card: Mending) -> int | None:
        """Returns the card's id, None if there is no such card any more. Raises TelegramError."""
        from web.telegram import api

        assert self.bot is not None
        if not card.messages and card.is_deletable:
            await api.delete(self.bot, card.chat_id, card.card_id)
            return None
        with words.speaking(card.language or "en"):
            if card.messages:
                html = cards.knock(self.settings.site_url, card.chat, card.messages)
            else:
                html = cards.over(card.chat, is_read=card.is_read)
        return card.card_id if await api.edit(self.bot, card.chat_id, card.card_id, html) else None

    async def test(self, user_id: int) -> str:
        """Send a test message. Returns its outcome: sent, pause, closed or failed."""
        async with self.db() as db:
            user = await db.get_one(User, user_id)
        chat_id = user.telegram_chat_id
        if self.bot is None or chat_id is None:
            return "failed"
        from web.telegram import api

        async with self._only_call_to(chat_id) as alone:
            if not alone or (user.telegram_not_before and user.telegram_not_before > datetime.now(UTC)):
                return "pause"
            try:
                with words.speaking(user.telegram_language or "en"):
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
            # Better one notification too many than none.
            log.warning("Redis is away, so everybody counts as away: %s", error)
            return presence.AWAY

    @asynccontextmanager
    async def _only_call_to(self, chat_id: int) -> AsyncIterator[bool]:
        """Hold the chat, so that a refusal is obeyed before the next call; False if it is not free within PATIENCE."""
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

    async def _send_card(self, bot: "Bot", claim: Claim) -> None:
        from web.telegram import api

        assert claim.chat_id is not None
        html = cards.knock(self.settings.site_url, claim.chat, claim.messages)
        try:
            card_id = claim.card_id
            if card_id is None or not await api.edit(bot, claim.chat_id, card_id, html):
                card_id = await api.send(bot, claim.chat_id, html)
        except TelegramError as error:
            await self._mark_refused(claim, error)
            return
        older = await self._mark_sent(claim, card_id)
        if self.announce:
            await self.announce(claim.conversation_id)
        for old_card_id in older:
            await self._delete_card(bot, claim, old_card_id)

    async def _mark_sent(self, claim: Claim, card_id: int | None) -> Sequence[int]:
        """Mark it, retrying while PostgreSQL is away: without the mark it would be sent twice."""
        until = time.monotonic() + MARK_SECONDS
        while True:
            try:
                async with self.db.begin() as db:
                    return await outbox.mark_sent(db, claim, card_id)
            except DATABASE_AWAY:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(0.5)

    async def _mark_refused(self, claim: Claim, error: TelegramError | PushError) -> None:
        log.warning("Notification %d, try %d: %s", claim.id, claim.attempts, error)
        async with self.db.begin() as db:
            await outbox.mark_refused(db, claim, error)
            if isinstance(error, TelegramError) and claim.chat_id is not None:
                await _obey(db, claim.chat_id, error)

    async def _delete_card(self, bot: "Bot", claim: Claim, card_id: int) -> None:
        """Delete an older card. If Telegram refuses for now, the next card's sender tries again."""
        from web.telegram import api

        assert claim.chat_id is not None
        try:
            await api.delete(bot, claim.chat_id, card_id)
        except TelegramError as error:
            log.warning("A card of notification %d stays: %s", claim.id, error)
            async with self.db.begin() as db:
                await _obey(db, claim.chat_id, error)
            return
        async with self.db.begin() as db:
            await outbox.mark_deleted(db, claim, card_id)


async def _obey(db: AsyncSession, chat_id: int, error: TelegramError) -> None:
    """Send nothing to the chat for as long as Telegram says, or until its owner links it again."""
    if error.permanent:
        await linking.lose(db, chat_id, str(error))
    if error.retry_after is not None:
        await outbox.pause(db, chat_id, error.retry_after)
