"""Connections that never say anything, each opened again when the server has closed it."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def around(port: int, count: int) -> Iterator[None]:
    """`count` of them at 127.0.0.1, for as long as the block runs."""
    ended = threading.Event()
    with selectors.DefaultSelector() as silent:
        for _ in range(count):
            _open(silent, port)
        thread = threading.Thread(target=_keep_open, args=(silent, port, ended))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            for key in list(silent.get_map().values()):
                _close(silent, key)


def _keep_open(silent: selectors.BaseSelector, port: int, ended: threading.Event) -> None:
    while not ended.is_set():
        for key, _ in silent.select(0.2):  # nobody sends them anything, so these were closed
            _close(silent, key)
            with suppress(OSError):
                _open(silent, port)


def _open(silent: selectors.BaseSelector, port: int) -> None:
    silent.register(socket.create_connection(("127.0.0.1", port), timeout=20), selectors.EVENT_READ)


def _close(silent: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    silent.unregister(key.fileobj)
    assert isinstance(key.fileobj, socket.socket)
    key.fileobj.close()
