"""uvicorn's supervisor, which starts the web processes and replaces those that end: made quick at noticing that one
ended, and kind to the pages when processes are told to end.
"""

import asyncio
import logging
import os
import socket

import uvicorn
from uvicorn.supervisors import multiprocess

from web.settings import AFTER_CRASH

log = logging.getLogger(__name__)

PACE = 0.02
"""Seconds between two sockets that a process which ends lets go."""
FAREWELL = 3.5
"""Seconds for all of them, however many they are."""


class Server(uvicorn.Server):
    """Lets its sockets go one by one, so that their pages do not all come back at once and wait for each other."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()  # whoever comes from now on comes to another process
        connections = self.server_state.connections
        kind = self.config.ws_protocol_class
        tabs = [connection for connection in connections if kind and isinstance(connection, kind)]
        for idle in connections.difference(tabs):
            idle.shutdown()  # else a socket may be asked for on it
        for tab in tabs:
            if tab in connections:
                tab.shutdown()
                await asyncio.sleep(min(PACE, FAREWELL / len(tabs)))
        await super().shutdown(sockets)


class Process(multiprocess.Process):
    """Lets go of the child's end of the pipe that asks whether it is well.

    uvicorn's own keeps it open in the parent, so the death of a child that is being asked is no end of file there: the
    parent waits for an answer until its patience is over, and replaces no other process meanwhile.
    """

    def start(self) -> None:
        super().start()
        self.child_conn.close()

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = Server(self.config)
        return self._server


multiprocess.Process = Process  # type: ignore[misc]  # the one way in which Multiprocess takes another


class Multiprocess(multiprocess.Multiprocess):
    """Ends the old processes together, once all the new ones serve.

    uvicorn's own replaces them one by one, so the pages of the first come back to one that ends next: they are cut
    again, or refused while they connect, and wait twice as long before they try another time.
    """

    def restart_all(self) -> None:
        staying: list[multiprocess.Process] = [Process(self.config, self.sockets) for _ in self.processes]
        leaving = self.processes
        for process in staying:
            process.start()
        patience = self.config.timeout_worker_healthcheck
        if not all(process.wait_until_ready(patience, self.should_exit) for process in staying):
            log.error("A new web process was not ready in time, so the old ones stay")
            staying, leaving = leaving, staying
        self.processes = staying
        for process in leaving:
            process.terminate()
        for process in leaving:
            process.join()

    def keep_subprocess_alive(self) -> None:
        # Whoever died may have acknowledged messages without having told the other processes of them.
        os.environ[AFTER_CRASH] = "yes"
        super().keep_subprocess_alive()
        del os.environ[AFTER_CRASH]
