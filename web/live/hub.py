"""The sockets of this process, joined to those of the other processes by Redis pub/sub.

A frame goes straight to the user's sockets in this process, and through Redis to those in others. A process listens
before it serves, so there is no gap between what a page catches up with and what is pushed to it. When frames may have
been lost, because Redis was away or a process crashed, the sockets are closed with 1012, a few at a time: their pages
come back at random moments and catch up.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from web import loops, metrics
from web.accounts import sessions
from web.data import postgres
from web.data.store import PAUSE, Store
from web.live import presence
from web.live.relay import FRAMES, MISSED, Frame, Notice, Relay
from web.live.socket import CROWDED, NOT_SIGNED_IN, RESTART, Socket

log = logging.getLogger(__name__)

PING = 0.5
"""Seconds of silence after which Redis is pinged."""
DOUBT = 1.0
"""Seconds of silence after which PostgreSQL is asked too: a log-out elsewhere ends sockets within two seconds."""
SILENCE = 5.0
"""Seconds of silence after which Redis counts as away."""
PIECE = 25
"""Sockets that are closed at a time when they may have missed something."""
PIECE_PAUSE = 0.05
"""Seconds between two pieces: their pages come back no faster than the machine can serve them."""
PRESENCE_PIECE = 1000
"""Users whose presence is told in one call, which holds up everybody else's for some milliseconds."""
START = 1.0
"""Seconds that the first socket waits for Redis at most."""
TABS = 20
"""Sockets of one user at most."""
SESSIONS_ENDED = "sessions-ended"
"""The topic of notices with the ids of ended sessions, in hex."""


class Hub:
    """Every open socket of this process, by user."""

    def __init__(self, store: Store, relay: Relay[Any], db: postgres.Database, *, limits: bool) -> None:
        """`limits`: a user may have TABS sockets, and no more."""
        self._store = store
        self._relay = relay
        self._db = db
        self._limits = limits
        self._sockets: dict[int, set[Socket]] = defaultdict(set)
        self._handlers: dict[str, Callable[[Sequence[Any]], None]] = {SESSIONS_ENDED: self._close_sessions}
        self._forgetters: list[Callable[[], None]] = []
        self._watchers: list[Callable[[Iterable[int]], None]] = []
        self._listening = asyncio.Event()
        self._heard_at = 0.0
        """When Redis last said something."""
        self._to_restart: list[Socket] = []
        self._restarting: asyncio.TimerHandle | None = None
        self._to_renew: set[int] = set()
        self._renewing = asyncio.Lock()
        self._next_renewal: asyncio.Task[None] | None = None

    @property
    def is_listening(self) -> bool:
        """Whether frames and notices of the other processes arrive here."""
        return self._listening.is_set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with loops.running(self._listen_forever, self._renew_presence_forever, self._watch_sessions_forever):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._listening.wait(), START)
            yield

    @asynccontextmanager
    async def joined(self, socket: Socket) -> AsyncIterator[None]:
        """Add the socket to its user's; it gets everything that is published from here on."""
        user = socket.me.id
        if self._limits:
            self._make_room(user)
        self._sockets[user].add(socket)
        lifetime = (socket.me.expires_at - datetime.now(UTC)).total_seconds()
        expiry = asyncio.get_running_loop().call_later(lifetime, socket.close, NOT_SIGNED_IN)
        metrics.SOCKETS.inc()
        try:
            await self.renew_presence([user])
            yield
        finally:
            metrics.SOCKETS.dec()
            expiry.cancel()
            self._sockets[user].discard(socket)
            if not self._sockets[user]:
                del self._sockets[user]
            await self.renew_presence([user])

    def _make_room(self, user: int) -> None:
        """Close the user's oldest idle socket if they have as many as they may: the last one that they would miss."""
        sockets = [socket for socket in self._sockets.get(user, ()) if not socket.closing]
        if len(sockets) >= TABS:
            min(sockets, key=lambda socket: (socket.viewing, socket.heard_at)).close(CROWDED)

    async def looked(self, socket: Socket, *, viewing: bool) -> None:
        """The page came into view, or went out of it."""
        socket.viewing = viewing
        await self.renew_presence([socket.me.id])

    def publish(self, users: Sequence[int], html: str) -> None:
        """Send a frame to every page that these users have open, in any process."""
        frame = Frame(users, html)
        self._deliver(frame)
        self._relay.publish(frame)

    def notify(self, topic: str, ids: Sequence[int | str]) -> None:
        """Send a notice to every process, this one too."""
        notice = Notice(topic, ids)
        self._heed(notice)
        self._relay.notify(notice)

    def on_notice(self, topic: str, handler: Callable[[Sequence[Any]], None], *, missed: Callable[[], None]) -> None:
        """Call `handler` with the ids of each notice on the topic, and `missed` when notices may have been lost."""
        self._handlers[topic] = handler
        self._forgetters.append(missed)

    def on_presence(self, watcher: Callable[[Iterable[int]], None]) -> None:
        """Call `watcher` with users who may have opened their first tab at this process, or closed their last one."""
        self._watchers.append(watcher)

    def has(self, user: int) -> bool:
        """Whether a page of that user is open at this process."""
        return user in self._sockets

    def end_sessions(self, session_ids: Iterable[bytes]) -> None:
        """Close the sockets of ended sessions, in any process."""
        self.notify(SESSIONS_ENDED, [session_id.hex() for session_id in session_ids])

    def _deliver(self, frame: Frame) -> None:
        for user in frame.users:
            for socket in self._sockets.get(user, ()):
                socket.push(frame.html)

    def _heed(self, notice: Notice) -> None:
        # A process of the next release may send what this one does not know yet.
        if handler := self._handlers.get(notice.topic):
            handler(notice.ids)

    def _close_sessions(self, ids: Sequence[str]) -> None:
        ended = {bytes.fromhex(id) for id in ids}
        for socket in self._every_socket():
            if socket.me.session_id in ended:
                socket.close(NOT_SIGNED_IN)

    async def _listen_forever(self) -> None:
        is_away = False
        while True:
            try:
                await self._listen(is_back=is_away)
            # redis-py raises more than its own errors when a connection breaks while it is read.
            except Exception as error:
                if self.is_listening or not is_away:
                    log.warning("Redis is away: frames reach only the sockets of their own process (%r)", error)
            self._listening.clear()
            is_away = True
            await asyncio.sleep(PAUSE / 2)

    async def _listen(self, is_back: bool) -> None:
        """Listen until Redis goes away. Raises the error that says so."""
        async with self._store.client.pubsub() as pubsub:
            await pubsub.subscribe(FRAMES, MISSED)
            if is_back:
                log.warning("Redis is back: frames reach the sockets of all processes")
            self._heard_at = asyncio.get_running_loop().time()
            while True:
                message = await pubsub.get_message(timeout=PING)
                now = asyncio.get_running_loop().time()
                if message is not None:
                    self._heard_at = now
                    self._hear(message["type"], message["channel"], message["data"])
                elif now - self._heard_at > SILENCE:
                    raise TimeoutError(f"no word from Redis for {SILENCE:.0f} s")
                else:
                    await pubsub.ping()

    def _hear(self, kind: str, channel: str, data: str) -> None:
        if kind == "message" and channel == FRAMES:
            frames, notices = self._relay.heard(data)
            for frame in frames:
                self._deliver(frame)
            for notice in notices:
                self._heed(notice)
        elif channel == MISSED and kind in ("message", "subscribe"):
            # Sockets opened before we subscribed may have missed frames too.
            self._listening.set()
            for forget in self._forgetters:
                forget()
            # Those in view are the last of the list, and the first to come back.
            self._to_restart = sorted(self._every_socket(), key=lambda socket: (socket.viewing, socket.heard_at))
            if self._restarting is None:
                self._restart_some()

    def _restart_some(self) -> None:
        """Let a few pages come back and catch up, and after a moment the next ones."""
        for socket in self._to_restart[-PIECE:]:
            socket.close(RESTART)
        del self._to_restart[-PIECE:]
        loop = asyncio.get_running_loop()
        self._restarting = loop.call_later(PIECE_PAUSE, self._restart_some) if self._to_restart else None

    def _is_viewing(self, user: int) -> bool:
        return any(socket.viewing for socket in self._sockets.get(user, ()))

    def _every_socket(self) -> list[Socket]:
        return [socket for sockets in self._sockets.values() for socket in sockets]

    async def _renew_presence_forever(self) -> None:
        while True:
            await asyncio.sleep(presence.REFRESH_SECONDS)
            await self.renew_presence(list(self._sockets))

    async def renew_presence(self, users: Collection[int]) -> None:
        """Renew the leases that say that these users were here a moment ago, and which of them look at a tab.

        Users who come while Redis is being told share the next round, which goes on even if this call is cancelled.
        """
        self._to_renew.update(users)
        for watcher in self._watchers:
            watcher(users)
        if self._next_renewal is None:
            self._next_renewal = asyncio.create_task(self._renew_presence())
        await asyncio.shield(self._next_renewal)

    async def _renew_presence(self) -> None:
        async with self._renewing:
            self._next_renewal = None
            users = list(self._to_renew)
            self._to_renew.clear()
            for start in range(0, len(users), PRESENCE_PIECE):
                viewing = {user: self._is_viewing(user) for user in users[start : start + PRESENCE_PIECE]}
                await self._store.attempt(presence.refresh(self._store.client, self._relay.process_id, viewing))

    async def _watch_sessions_forever(self) -> None:
        """While Redis may not pass on that somebody logged out elsewhere, ask PostgreSQL: two seconds are promised."""
        while True:
            await asyncio.sleep(DOUBT / 2)
            silence = asyncio.get_running_loop().time() - self._heard_at
            if self._sockets and (silence > DOUBT or not self.is_listening):
                with suppress(*postgres.DATABASE_AWAY):
                    async with self._db() as db:
                        ids = {socket.me.session_id for socket in self._every_socket()}
                        ended = await sessions.ended(db, list(ids))
                    for socket in self._every_socket():
                        if socket.me.session_id in ended:
                            socket.close(NOT_SIGNED_IN)
