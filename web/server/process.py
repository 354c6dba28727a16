"""One web process, as the supervisor starts it: `python -m web.server.process SOCKET PULSE`, two file descriptors."""

import asyncio
import faulthandler
import logging
import os
import socket
import sys
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from web import settings
from web.server.connection import Connection, WebSocket, allow_many_files
from web.settings import Settings

log = logging.getLogger(__name__)

LEAVING_SECONDS = 5
"""For requests that are under way when the process is told to end."""
PACE = 0.02
"""Seconds between two WebSockets that a process closes when it ends."""
FAREWELL = 3.5
"""Seconds for all of them, however many they are."""
MAX_FRAME = 64 * 1024
"""Bytes."""


class Server(uvicorn.Server):
    """Reports to the supervisor. Ends its WebSockets one by one, so that their pages do not all reconnect at once."""

    def __init__(self, config: uvicorn.Config, pulse: int) -> None:
        super().__init__(config)
        self._pulse = pulse

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # every second
            try:
                os.write(self._pulse, b".")
            except BrokenPipeError:
                log.critical("The supervisor is gone, so this process ends")
                self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()  # new connections go to another process
        connections = self.server_state.connections
        kind = self.config.ws_protocol_class
        tabs = [connection for connection in connections if kind and isinstance(connection, kind)]
        for idle in connections.difference(tabs):
            idle.shutdown()  # or it might become a WebSocket yet
        for tab in tabs:
            if tab in connections:
                tab.shutdown()
                await asyncio.sleep(min(PACE, FAREWELL / len(tabs)))
        await super().shutdown(sockets)


def _is_ours(record: logging.LogRecord) -> bool:
    """uvicorn has a line, even a traceback, for each peer that sends no HTTP or no UTF-8. Nobody can mend them."""
    return not str(record.msg).startswith(("Invalid HTTP request", "Invalid UTF-8", "Unsupported upgrade"))


def config(chosen: Settings, app: str | ASGIApp) -> uvicorn.Config:
    """How uvicorn serves the app, or the factory of that name."""
    Connection.settings = chosen
    logging.getLogger("uvicorn.error").addFilter(_is_ours)
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        http=Connection,
        ws=WebSocket,
        ws_max_size=MAX_FRAME,
        ws_per_message_deflate=False,
        proxy_headers=False,  # web/proxies.py reads them
        timeout_graceful_shutdown=LEAVING_SECONDS,
        access_log=False,
        log_config=None,
        server_header=False,
    )


def main(listening: int, pulse: int) -> None:
    faulthandler.enable()  # the supervisor sends SIGABRT to a process that is stuck
    allow_many_files()
    serving = config(settings.load(), "web.app:from_environment")
    with suppress(KeyboardInterrupt):  # Ctrl-C, which uvicorn raises again once it has ended politely
        Server(serving, pulse).run([socket.socket(fileno=listening)])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
