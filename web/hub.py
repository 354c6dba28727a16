"""The sockets of this process, joined to those of the other processes by Redis pub/sub.

A frame goes straight to the user's sockets in this process, and by Redis to those in others. A socket opens only when
its user's channel is listened to, so what the page catches up with and what is pushed to it leave no gap between them.
Where frames may have been lost, because Redis was away, the sockets are closed with 1012: the pages come back and
catch up, each after a time of its own.
"""

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from redis.asyncio.client import PubSub

from web import background, metrics, presence, sessions
from web import db as database
from web.relay import MISSED, Relay
from web.socket import NOT_SIGNED_IN, RESTART, Socket
from web.store import PAUSE, UNAVAILABLE, Store

log = logging.getLogger(__name__)

PING = 2.0
"""Seconds of silence after which Redis is asked whether it is still there."""
SILENCE = 5.0
"""Seconds of silence after which it is not."""
LOG_OUT = "log-out:"


class Hub:
    """Every open socket of this process, by user."""

    def __init__(self, store: Store, relay: Relay, db: database.Sessions) -> None:
        self.process_id = secrets.token_hex(8)
        self._store = store
        self._relay = relay
        self._db = db
        self._sockets: dict[int, set[Socket]] = defaultdict(set)
        self._listening: dict[int, asyncio.Event] = {}
        self._pubsub: PubSub | None = None
        self._is_away = False
        self._to_tune: set[int] = set()
        self._tuning = asyncio.Lock()
        self._to_tell: set[int] = set()
        self._telling = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with background.loops(self._listen_forever, self._renew_presence_forever, self._watch_sessions_forever):
            yield

    @asynccontextmanager
    async def joined(self, socket: Socket) -> AsyncIterator[None]:
        """Have the socket among its user's; it gets everything that is published from here on."""
        user = socket.me.id
        self._sockets[user].add(socket)
        lifetime = (socket.me.expires_at - datetime.now(UTC)).total_seconds()
        expiry = asyncio.get_running_loop().call_later(lifetime, socket.close, NOT_SIGNED_IN)
        metrics.SOCKETS.inc()
        try:
            await self._listened(user)
            await self.tell_presence([user])
            yield
        finally:
            metrics.SOCKETS.dec()
            expiry.cancel()
            self._sockets[user].discard(socket)
            if not self._sockets[user]:
                del self._sockets[user]
                await self._unlisten(user)
            await self.tell_presence([user])

    async def looked(self, socket: Socket, *, viewing: bool) -> None:
        """The page came into view, or went out of it."""
        socket.viewing = viewing
        await self.tell_presence([socket.me.id])

    def publish(self, user: int, frame: str) -> None:
        """Send a frame to every page that the user has open, anywhere."""
        self._deliver(user, frame)
        self._relay.publish(_channel(user), self.process_id + frame)

    def log_out(self, user: int, session_ids: Iterable[bytes]) -> None:
        """Close the sockets of ended sessions, anywhere."""
        for session_id in session_ids:
            self.publish(user, LOG_OUT + session_id.hex())

    def _deliver(self, user: int, frame: str) -> None:
        is_log_out = frame.startswith(LOG_OUT)
        for socket in self._sockets.get(user, ()):
            if not is_log_out:
                socket.push(frame)
            elif frame == LOG_OUT + socket.me.session_id.hex():
                socket.close(NOT_SIGNED_IN)

    async def _listened(self, user: int) -> None:
        """Wait until Redis confirmed that this process hears of the user; not for long, since it may be away."""
        if user not in self._listening:
            self._listening[user] = asyncio.Event()
            await self._tune([user])
        if self._pubsub is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._listening[user].wait(), 1)

    async def _unlisten(self, user: int) -> None:
        self._listening.pop(user, None)
        await self._tune([user])

    async def _tune(self, users: Iterable[int]) -> None:
        """Have Redis know which of these users this process listens to.

        A crowd that comes or goes takes one call, since whoever comes while one is under way shares the next; and one
        socket that is cut meanwhile takes nobody else's place in it along.
        """
        self._to_tune.update(users)
        async with self._tuning:
            await asyncio.shield(self._tune_in())

    async def _tune_in(self) -> None:
        users, self._to_tune = self._to_tune, set()
        wanted = [_channel(user) for user in users if user in self._listening]
        unwanted = [_channel(user) for user in users if user not in self._listening]
        with suppress(*UNAVAILABLE):
            if wanted and self._pubsub is not None:
                await self._pubsub.subscribe(*wanted)
            if unwanted and self._pubsub is not None:
                await self._pubsub.unsubscribe(*unwanted)

    async def _listen_forever(self) -> None:
        while True:
            try:
                await self._listen()
            # redis-py raises more than its own errors on a connection that another task saw break.
            except Exception as error:
                if self._pubsub is not None or not self._is_away:
                    log.warning("Redis is away: frames reach only the sockets of their own process (%r)", error)
            self._pubsub, self._is_away = None, True
            for event in self._listening.values():
                event.clear()
            await asyncio.sleep(PAUSE / 2)

    async def _listen(self) -> None:
        """Listen until Redis goes away. Raises what says so."""
        async with self._store.client.pubsub() as pubsub:
            await pubsub.connect()
            opened_before = list(self._every_socket())
            self._pubsub = pubsub  # from here on a new socket subscribes for itself
            await pubsub.subscribe(*map(_channel, self._listening), MISSED)
            heard = asyncio.get_running_loop().time()
            while True:
                message = await pubsub.get_message(timeout=PING)
                now = asyncio.get_running_loop().time()
                if message is None:
                    if now - heard > SILENCE:
                        raise TimeoutError(f"no word from Redis for {SILENCE:.0f} s")
                    await pubsub.ping()
                    continue
                heard = now
                if message["type"] == "subscribe" and message["channel"] == MISSED:
                    self._restart(opened_before)
                self._hear(message["type"], message["channel"], message["data"])

    def _hear(self, kind: str, channel: str, data: str) -> None:
        if kind == "message" and channel == MISSED:
            self._restart(self._every_socket())
        elif kind == "message":
            origin, frame = data[: len(self.process_id)], data[len(self.process_id) :]
            if origin != self.process_id:
                self._deliver(_user(channel), frame)
        elif kind == "subscribe" and channel != MISSED and (event := self._listening.get(_user(channel))):
            event.set()

    def _restart(self, sockets: Iterable[Socket]) -> None:
        for socket in list(sockets):
            socket.close(RESTART)

    def _is_viewing(self, user: int) -> bool:
        return any(socket.viewing for socket in self._sockets.get(user, ()))

    def _every_socket(self) -> Iterable[Socket]:
        return (socket for sockets in self._sockets.values() for socket in sockets)

    async def _renew_presence_forever(self) -> None:
        while True:
            await asyncio.sleep(presence.REFRESH_SECONDS)
            await self.tell_presence(list(self._sockets))

    async def tell_presence(self, users: Iterable[int]) -> None:
        """Say that these users were here a moment ago, and which of them look at a tab of this process."""
        self._to_tell.update(users)
        async with self._telling:
            await asyncio.shield(self._tell())

    async def _tell(self) -> None:
        viewing = {user: self._is_viewing(user) for user in self._to_tell}
        self._to_tell.clear()
        if viewing:
            await self._store.ask(presence.refresh(self._store.client, self.process_id, viewing))

    async def _watch_sessions_forever(self) -> None:
        """While Redis cannot say that somebody logged out elsewhere, ask PostgreSQL: sockets end within two seconds."""
        while True:
            await asyncio.sleep(1)
            if self._pubsub is None and self._sockets:
                with suppress(*database.UNAVAILABLE):
                    async with self._db() as db:
                        ids = {socket.me.session_id for socket in self._every_socket()}
                        ended = await sessions.ended(db, list(ids))
                    for socket in list(self._every_socket()):
                        if socket.me.session_id in ended:
                            socket.close(NOT_SIGNED_IN)


def _channel(user: int) -> str:
    return f"user:{user}"


def _user(channel: str) -> int:
    return int(channel.removeprefix("user:"))
