"""The socket on which the site is served."""

import errno
import socket
import time

from web.server import CannotStart

BACKLOG = 2048
"""Connections that may wait to be accepted: as many pages reconnect at once after a restart."""
UNREAD_MILLISECONDS = 8_000
"""The kernel cuts off a peer that has not taken what it was sent for so long (TCP_USER_TIMEOUT, RFC 5482)."""
PATIENCE = 5
"""Seconds in which the processes of a killed run end and free the port."""


def listen(host: str, port: int) -> socket.socket:
    """Raises CannotStart."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; the connections inherit it
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            listening.bind((host, port))
            listening.listen(BACKLOG)
            return listening
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise CannotStart(
                    f"cannot serve on {host} port {port}: {error.strerror}. HOST and PORT choose where."
                ) from None
            time.sleep(0.1)
