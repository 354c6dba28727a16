"""A TCP proxy that breaks connections: it can cut, refuse, delay, freeze or swallow them.

It runs in its own thread, so that it keeps going while the test blocks, and a busy test does not slow it down.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CHUNK = 64 * 1024


@dataclass(eq=False)
class Connection:
    """A connection through the proxy: the writers to both ends."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    beginning: bytes = b""
    """The first bytes that the client sent."""
    swallows: bool = False
    """Whether it reads from both ends and passes nothing on."""
    is_slow: bool = False
    doomed: bool = False
    """Whether it is cut instead of passing on the next answer."""

    def cut(self) -> None:
        for writer in (self.near, self.far):
            writer.transport.abort()


@dataclass(eq=False)
class Proxy:
    """On `port` of 127.0.0.1, in front of `upstream`: a host and port, or the path of a Unix socket."""

    upstream: tuple[str, int] | str
    port: int = 0
    delay: float = 0.0
    """Seconds that each chunk is delayed, in either direction."""
    slow: bytes = b""
    """Only connections whose client has sent this are delayed."""
    doom: bytes | None = None
    """When a client sends this, the connection is cut instead of answering; once."""
    _connections: set[Connection] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _flowing: asyncio.Event = field(default_factory=asyncio.Event)

    def cut(self) -> None:
        """Reset all open connections."""
        self._call(self._cut)

    def refuse(self) -> None:
        """Reset all connections and refuse new ones, like a server that is down."""
        self._call(self._refuse)

    def accept(self) -> None:
        """Accept connections again."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def freeze(self) -> None:
        """Hold everything back, in both directions. New connections are accepted and get no answer."""
        self._call(self._flowing.clear)

    def thaw(self) -> None:
        self._call(self._flowing.set)

    def swallow(self, beginning: bytes = b"") -> None:
        """Open connections whose client began with this lose every byte from now on; new ones work."""
        self._call(lambda: self._swallow(beginning))

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        self._call(self._flowing.set)
        self.accept()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(10)
            self._loop.close()

    def _call(self, do: Callable[[], None]) -> None:
        async def done() -> None:
            do()

        asyncio.run_coroutine_threadsafe(done(), self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port, backlog=2048)
            self.port = self._server.sockets[0].getsockname()[1]

    def _cut(self) -> None:
        for connection in list(self._connections):
            connection.cut()

    def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._cut()

    def _swallow(self, beginning: bytes) -> None:
        for connection in self._connections:
            connection.swallows |= connection.beginning.startswith(beginning)

    async def _end(self) -> None:
        self._refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await self._reach()
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(writer, far_writer)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(connection, reader, far_writer, from_client=True))
                group.create_task(self._pump(connection, far_reader, writer, from_client=False))
        except* OSError:
            pass
        finally:
            self._connections.discard(connection)
            connection.cut()

    async def _reach(self) -> Streams:
        await self._flowing.wait()
        if isinstance(self.upstream, str):
            return await asyncio.open_unix_connection(self.upstream)
        return await asyncio.open_connection(*self.upstream)

    async def _pump(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        while chunk := await reader.read(CHUNK):
            await self._flowing.wait()
            connection.beginning = connection.beginning or chunk[:64]
            if connection.swallows:
                continue
            connection.is_slow |= from_client and self.slow in chunk
            if self.delay and connection.is_slow:
                await asyncio.sleep(self.delay)
            if from_client and self.doom and self.doom in chunk:
                self.doom, connection.doomed = None, True
            elif not from_client and connection.doomed:
                connection.cut()
                return
            writer.write(chunk)
            await writer.drain()
        while connection.swallows:  # noqa: ASYNC110
            await asyncio.sleep(1)  # the end of the stream is swallowed too, until the connection is cut
        with suppress(OSError):
            writer.write_eof()
