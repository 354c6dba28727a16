"""The parts that one web process is made of: opened when it starts, found at `request.state`, closed when it ends."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from starlette import datastructures, requests, websockets

from web.accounts.limiter import Limiter
from web.chat.cache import Cache
from web.chat.conversations import Pairs
from web.chat.list_updates import ChatLists
from web.chat.messages import Latests
from web.chat.writer import Writer
from web.data import postgres, store
from web.data.questions import Reader
from web.data.store import Store
from web.live.hub import Hub
from web.live.relay import Relay
from web.settings import AFTER_CRASH, Settings


class Site(datastructures.State):
    """One web process."""

    settings: Settings
    db: postgres.Sessions
    reader: Reader
    store: Store
    pairs: Pairs
    latests: Latests
    relay: Relay
    hub: Hub
    chat_lists: ChatLists
    writer: Writer
    limiter: Limiter


Request = requests.Request[Site]
WebSocket = websockets.WebSocket[Site]
Connection = requests.HTTPConnection[Site]


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Mapping[str, Any]]:
    """The parts of a process, running, as the state that Starlette gives to every request."""
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(postgres.connect(settings))
        redis = await stack.enter_async_context(store.connect(settings.redis_url))
        db = postgres.sessions(engine)
        reader = Reader(engine)
        relay = Relay(redis, missed=AFTER_CRASH in os.environ)
        hub = Hub(redis, relay, db)
        chat_lists = ChatLists(reader, hub)
        writer = Writer(engine, hub, chat_lists, relay)
        for part in (reader, relay, hub, chat_lists, writer):
            await stack.enter_async_context(part.running())
        yield {
            "settings": settings,
            "db": db,
            "reader": reader,
            "store": redis,
            "pairs": Pairs(reader, db),
            "latests": Latests(reader, Cache(redis)),
            "relay": relay,
            "hub": hub,
            "chat_lists": chat_lists,
            "writer": writer,
            "limiter": Limiter(redis.client.connection_pool),
        }
