"""A WebSocket client for the load: as much of RFC 6455 as the chats here need.

Its frames are masked with zero, which the protocol allows and a server unmasks like any other mask.
"""

import socket
from collections.abc import Iterator

CHUNK = 32 * 1024
TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
)


class Closed(Exception):
    """The server closed the socket or never opened it; the text says how."""


class Socket:
    """One open WebSocket."""

    __slots__ = ("_outgoing", "_received", "is_open", "number", "wire")

    def __init__(self, number: int, host: str, port: int, path: str, headers: str) -> None:
        self.number = number
        self.is_open = False
        self.wire = socket.create_connection((host, port), timeout=10)
        self.wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire.sendall(HANDSHAKE.format(path=path, host=host, port=port, headers=headers).encode())
        self.wire.setblocking(False)
        self._received = b""
        self._outgoing = b""

    def send(self, frame: bytes) -> None:
        """Send what `frame` made. What the kernel does not take at once goes out with the next frame."""
        data = self._outgoing + frame if self._outgoing else frame
        try:
            sent = self.wire.send(data)
        except BlockingIOError:
            sent = 0
        self._outgoing = data[sent:] if sent < len(data) else b""

    def receive(self) -> Iterator[tuple[int, bytes, int, int]]:
        """The frames that arrived: the first byte, the data, and where in the data the payload starts and ends.

        Raises Closed.
        """
        try:
            chunk = self.wire.recv(CHUNK)
        except BlockingIOError:
            return
        except ConnectionError as error:
            raise Closed(str(error)) from None
        if not chunk:
            raise Closed("the connection ended")
        data = self._received + chunk if self._received else chunk
        at = 0 if self.is_open else self._shake_hands(data)
        end = len(data) if self.is_open else 0
        while end - at >= 2:
            length, start = data[at + 1], at + 2
            if length == 126:
                start = at + 4
                length = int.from_bytes(data[at + 2 : start], "big")
            elif length == 127:
                start = at + 10
                length = int.from_bytes(data[at + 2 : start], "big")
            stop = start + length
            if stop > end:
                break
            yield data[at], data, start, stop
            at = stop
        self._received = data[at:]

    def _shake_hands(self, data: bytes) -> int:
        """Where the frames begin; 0 until the whole answer has arrived. Raises Closed."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return 0
        if b" 101 " not in data[:16]:
            raise Closed(data[:end].decode())
        self.is_open = True
        return end + 4


def frame(payload: bytes, first: int = TEXT) -> bytes:
    """A frame of fewer than 65,536 bytes."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([first]) + length + bytes(4) + payload
