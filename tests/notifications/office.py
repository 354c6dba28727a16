"""A scene with a sender: the real aiogram, and a Bot API at the wire."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.notifications.scene import Scene
from tests.telegram import bot_api
from tests.telegram.bot_api import FakeTelegram
from web import settings
from web.data import postgres, store
from web.notifications.sending import Sender
from web.telegram import api

SITE_URL = "https://knock.example"


@pytest.fixture(scope="module")
def shared_sender(
    environ: dict[str, str], runner: asyncio.Runner, engine: AsyncEngine, shared_fake: FakeTelegram
) -> Iterator[Sender]:
    more = {"TELEGRAM_BOT_TOKEN": bot_api.TOKEN, "TELEGRAM_API_URL": shared_fake.url, "SITE_URL": SITE_URL}
    chosen = settings.read({**environ, **more})
    stack = AsyncExitStack()

    async def connected() -> Sender:
        bot = await stack.enter_async_context(api.connect(chosen))
        connected = await stack.enter_async_context(store.connect(chosen.redis_url))
        return Sender(postgres.database(engine), connected.client, bot, chosen)

    yield runner.run(connected())
    runner.run(stack.aclose())


@dataclass
class Office:
    """A scene with a sender."""

    scene: Scene
    telegram: FakeTelegram
    sender: Sender

    def send(self, *notification_ids: int) -> None:
        """Send them all at once."""
        self.run(*(self.sender.send(id) for id in notification_ids))

    def run(self, *work: Coroutine[Any, Any, Any]) -> list[Any]:
        async def all_of_it() -> list[Any]:
            return await asyncio.gather(*work)

        return self.scene.runner.run(all_of_it())

    def methods(self) -> list[str]:
        return [call.method for call in self.telegram.called(chat_id=self.scene.chat_id)]

    def shown(self) -> list[str]:
        return self.telegram.shown(self.scene.chat_id)


@pytest.fixture
def office(scene: Scene, fake: FakeTelegram, shared_sender: Sender) -> Office:
    return Office(scene, fake, shared_sender)
