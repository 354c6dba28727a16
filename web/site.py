"""The parts that a web process is made of: opened when it starts, found at `request.state`, closed when it ends."""

import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.pool import QueuePool
from starlette import datastructures, requests, websockets

from web import loops, metrics, tasks
from web.accounts import deletion
from web.accounts.limiter import Limiter
from web.accounts.pace import Pace
from web.accounts.sessions import Endings
from web.chat import cache
from web.chat.cache import Cache
from web.chat.changes import Announcer, Changes
from web.chat.contacts import Contacts
from web.chat.conversations import PEOPLE_CHANGED, Conversations
from web.chat.history import Latests
from web.chat.list_updates import ListUpdates
from web.chat.messages import Messages
from web.chat.presence_updates import PresenceUpdates
from web.chat.writer import Writer
from web.data import postgres, store
from web.data.models import Participant
from web.data.questions import Reader
from web.data.store import Store
from web.live.hub import Hub
from web.live.relay import Relay
from web.proxies import Proxies
from web.settings import AFTER_CRASH, Settings

TYPING = 3.0
"""Seconds between two times that others are told that somebody types in a chat."""


log = logging.getLogger(__name__)


class Site(datastructures.State):
    """One web process."""

    settings: Settings
    proxies: Proxies
    db: postgres.Database
    reader: Reader
    store: Store
    hub: Hub
    endings: Endings
    limiter: Limiter
    pace: Pace
    """Of users."""
    typing_pace: Pace
    """Of pairs of a conversation and a user."""
    conversations: Conversations
    latests: Latests
    list_updates: ListUpdates
    presence_updates: PresenceUpdates
    announcer: Announcer
    messages: Messages
    changes: Changes


Request = requests.Request[Site]
WebSocket = websockets.WebSocket[Site]
Connection = requests.HTTPConnection[Site]


@asynccontextmanager
async def running(settings: Settings, proxies: Proxies | None = None) -> AsyncIterator[Mapping[str, Any]]:
    """The parts of a process, running, as the state that Starlette gives to every request."""
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(postgres.connect(settings))
        redis = await stack.enter_async_context(store.connect(settings.redis_url))
        db = postgres.database(engine)
        reader = Reader(engine)
        relay = Relay[cache.Change](
            redis, update_lists=cache.update, enqueue=tasks.enqueue, missed=AFTER_CRASH in os.environ
        )
        hub = Hub(redis, relay, db, limits=settings.limits)
        list_updates = ListUpdates(reader, hub)
        presence_updates = PresenceUpdates(reader, redis, hub, relay.process_id)
        announcer = Announcer(hub, list_updates, presence_updates, relay)
        writer = Writer(engine, reader, announcer, relay.enqueue)
        conversations = Conversations(reader, db, hub)
        limiter = Limiter(redis.client.connection_pool, is_on=settings.limits)
        contacts = Contacts(reader, limiter) if settings.limits else None
        for part in (reader, relay, hub, list_updates, presence_updates, writer):
            await stack.enter_async_context(part.running())
        await stack.enter_async_context(loops.running(partial(metrics.watch_forever, cast(QueuePool, engine.pool))))
        if not settings.limits:
            log.warning("LIMITS is off: sign-ups, logins and connections are not limited")
        yield {
            "settings": settings,
            "proxies": proxies or Proxies(settings),
            "db": db,
            "reader": reader,
            "store": redis,
            "hub": hub,
            "endings": Endings(hub.end_sessions),
            "limiter": limiter,
            "pace": Pace(settings.socket_rate, burst=2 * settings.socket_rate),
            "typing_pace": Pace(1 / TYPING, burst=1),
            "conversations": conversations,
            "latests": Latests(reader, Cache(redis)),
            "list_updates": list_updates,
            "presence_updates": presence_updates,
            "announcer": announcer,
            "messages": Messages(conversations, reader, writer, contacts),
            "changes": Changes(conversations, db, announcer),
        }


async def delete_user(site: Site, user_id: int) -> None:
    """Delete an account: in PostgreSQL, in what every process remembers, and in the cached lists."""
    async with site.db.begin() as db:
        await deletion.delete_account(db, site.endings, user_id)
        mine = select(Participant.conversation_id).where(Participant.user_id == user_id)
        conversation_ids = list(await db.scalars(mine))
    site.hub.notify(PEOPLE_CHANGED, [user_id])
    await Cache(site.store).forget(conversation_ids)
