"""The frames of the chats that are compared, as far as the load needs to know them."""

from collections.abc import Callable
from dataclasses import dataclass

NONCE_LENGTH = 16
LINE = " is the number of this message, and this is about as long as the lines that people write to each other."
"""A message is its nonce and this: plain letters, which every chat shows unchanged."""


@dataclass(frozen=True)
class Dialect:
    """One chat's frames. The recipient's and the sender's frame both contain the whole message."""

    path: str
    send: Callable[[str, str, str], str]
    """Makes the frame that sends a message, from the recipient, the nonce and the body."""
    mark: bytes
    """Precedes the nonce in a frame that shows a message."""
    opening: bytes
    closing: bytes
    """Precede and follow the body in that frame."""
    is_socket_io: bool = False


def _knock(to: str, nonce: str, body: str) -> str:
    return f'{{"action":"send","to":"{to}","nonce":"{nonce}","body":"{body}"}}'


def _json(to: str, nonce: str, body: str) -> str:
    return f'{{"to":"{to}","nonce":"{nonce}","body":"{body}"}}'


def _socket_io(to: str, nonce: str, body: str) -> str:
    return f'42["send",{_json(to, nonce, body)}]'


DIALECTS = {
    "knock": Dialect("/ws", _knock, b'data-nonce="', b">", b"<"),
    "json": Dialect("/ws", _json, b'"nonce":"', b'"body":"', b'"'),
    "socket.io": Dialect(
        "/socket.io/?EIO=4&transport=websocket", _socket_io, b'"nonce":"', b'"body":"', b'"', is_socket_io=True
    ),
}
