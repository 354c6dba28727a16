"""The sockets of this process, joined to those of the other processes by Redis pub/sub.

A frame goes straight to the user's sockets in this process, and by Redis to those in others. A process listens before
it serves, so what a page catches up with and what is pushed to it leave no gap between them. Where frames may have been
lost, because Redis was away, the sockets are closed with 1012: the pages come back and catch up, each after a time of
its own.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from web import loops, metrics
from web.accounts import sessions
from web.data import postgres
from web.data.store import PAUSE, Store
from web.live import presence
from web.live.relay import FRAMES, MISSED, Relay
from web.live.socket import NOT_SIGNED_IN, RESTART, Socket

log = logging.getLogger(__name__)

PING = 2.0
"""Seconds of silence after which Redis is asked whether it is still there."""
SILENCE = 5.0
"""Seconds of silence after which it is not."""
START = 1.0
"""Seconds for which the first socket waits for Redis at the most."""
LOG_OUT = "log-out:"


class Hub:
    """Every open socket of this process, by user."""

    def __init__(self, store: Store, relay: Relay, db: postgres.Sessions) -> None:
        self._store = store
        self._relay = relay
        self._db = db
        self._sockets: dict[int, set[Socket]] = defaultdict(set)
        self._listening = asyncio.Event()
        self._to_tell: set[int] = set()
        self._telling = asyncio.Lock()
        self._next_telling: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with loops.loops(self._listen_forever, self._renew_presence_forever, self._watch_sessions_forever):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._listening.wait(), START)
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
            await self.tell_presence([user])
            yield
        finally:
            metrics.SOCKETS.dec()
            expiry.cancel()
            self._sockets[user].discard(socket)
            if not self._sockets[user]:
                del self._sockets[user]
            await self.tell_presence([user])

    async def looked(self, socket: Socket, *, viewing: bool) -> None:
        """The page came into view, or went out of it."""
        socket.viewing = viewing
        await self.tell_presence([socket.me.id])

    def publish(self, users: Sequence[int], frame: str) -> None:
        """Send a frame to every page that these users have open, anywhere."""
        self._deliver(users, frame)
        self._relay.publish((users, frame))

    def log_out(self, user: int, session_ids: Iterable[bytes]) -> None:
        """Close the sockets of ended sessions, anywhere."""
        for session_id in session_ids:
            self.publish([user], LOG_OUT + session_id.hex())

    def _deliver(self, users: Sequence[int], frame: str) -> None:
        is_log_out = frame.startswith(LOG_OUT)
        for user in users:
            for socket in self._sockets.get(user, ()):
                if not is_log_out:
                    socket.push(frame)
                elif frame == LOG_OUT + socket.me.session_id.hex():
                    socket.close(NOT_SIGNED_IN)

    async def _listen_forever(self) -> None:
        is_away = False
        while True:
            try:
                await self._listen()
            # redis-py raises more than its own errors on a connection that breaks while it is read.
            except Exception as error:
                if self._listening.is_set() or not is_away:
                    log.warning("Redis is away: frames reach only the sockets of their own process (%r)", error)
            self._listening.clear()
            is_away = True
            await asyncio.sleep(PAUSE / 2)

    async def _listen(self) -> None:
        """Listen until Redis goes away. Raises what says so."""
        async with self._store.client.pubsub() as pubsub:
            await pubsub.subscribe(FRAMES, MISSED)
            heard = asyncio.get_running_loop().time()
            while True:
                message = await pubsub.get_message(timeout=PING)
                now = asyncio.get_running_loop().time()
                if message is not None:
                    heard = now
                    self._hear(message["type"], message["channel"], message["data"])
                elif now - heard > SILENCE:
                    raise TimeoutError(f"no word from Redis for {SILENCE:.0f} s")
                else:
                    await pubsub.ping()

    def _hear(self, kind: str, channel: str, data: str) -> None:
        if kind == "message" and channel == FRAMES:
            for users, frame in self._relay.heard(data):
                self._deliver(users, frame)
        elif channel == MISSED and kind in ("message", "subscribe"):
            # Whoever opened while nothing was listened to may have missed something just as those who were told so.
            self._listening.set()
            self._restart()

    def _restart(self) -> None:
        for socket in list(self._every_socket()):
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
        """Say that these users were here a moment ago, and which of them look at a tab of this process.

        All who come while Redis is being told share the next time; one that is cut meanwhile takes nobody else along.
        """
        self._to_tell.update(users)
        if self._next_telling is None:
            self._next_telling = asyncio.create_task(self._tell())
        await asyncio.shield(self._next_telling)

    async def _tell(self) -> None:
        async with self._telling:
            self._next_telling = None
            viewing = {user: self._is_viewing(user) for user in self._to_tell}
            self._to_tell.clear()
            await self._store.ask(presence.refresh(self._store.client, self._relay.process_id, viewing))

    async def _watch_sessions_forever(self) -> None:
        """While Redis cannot say that somebody logged out elsewhere, ask PostgreSQL: sockets end within two seconds."""
        while True:
            await asyncio.sleep(1)
            if self._sockets and not self._listening.is_set():
                with suppress(*postgres.UNAVAILABLE):
                    async with self._db() as db:
                        ids = {socket.me.session_id for socket in self._every_socket()}
                        ended = await sessions.ended(db, list(ids))
                    for socket in list(self._every_socket()):
                        if socket.me.session_id in ended:
                            socket.close(NOT_SIGNED_IN)
