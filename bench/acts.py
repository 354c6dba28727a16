"""What people do besides writing, `python -m bench.acts`: frames at a rate, and when the other's tab shows them.

Like bench.generator it is one thread on bare sockets and reads one job per line.
"""

import json
import selectors
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from bench.frames import CLOSE, PING, PONG, Closed, Socket, frame
from bench.generator import OPENING, PATIENCE, percentiles

ROUND = "{round}"
"""Replaced by how often its act was done, counted from `first`."""


@dataclass(slots=True)
class Waiting:
    """An act that its receiver has not shown yet."""

    expected: bytes
    at: float


class People:
    """All sockets, by the number of their person."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[int, Socket] = {}
        self._waiting: dict[int, deque[Waiting]] = {}
        self._taken: list[float] = []

    def open(self, host: str, port: int, cookies: list[str]) -> dict[str, Any]:
        """Open a socket for each cookie."""
        self._host, self._port, self._cookies = host, port, cookies
        for start in range(0, len(cookies), OPENING):
            some = range(start, min(start + OPENING, len(cookies)))
            for number in some:
                self._connect(number)
            deadline = time.perf_counter() + PATIENCE
            while not all(self._sockets[number].is_open for number in some):
                if time.perf_counter() > deadline:
                    raise Closed("some sockets did not open")
                self._receive(0.1)
        return {"sockets": len(cookies)}

    def act(self, acts: list[tuple[int, str, int, str]], rate: float, seconds: float, first: int = 1) -> dict[str, Any]:
        """Do the acts in turn, `rate` a second. Returns how long they took and how many were never shown.

        An act is its person, their frame, the person who shows it, and what is in the frame that shows it; without the
        latter nobody waits for it. Without a frame the person goes or comes back.
        """
        self._waiting, self._taken = {}, []
        began = time.perf_counter()
        for number in range(int(rate * seconds)):
            due = began + number / rate
            while (now := time.perf_counter()) < due:
                self._receive(due - now)
            person, text, receiver, expected = acts[number % len(acts)]
            turn = str(first + number // len(acts))
            if not text:
                self._come_or_go(person)
                continue
            if expected:
                wanted = Waiting(expected.replace(ROUND, turn).encode(), max(due, now - 0.002))
                self._waiting.setdefault(receiver, deque()).append(wanted)
            self._sockets[person].send(frame(text.replace(ROUND, turn).encode()))
        deadline = time.perf_counter() + PATIENCE
        while any(self._waiting.values()) and time.perf_counter() < deadline:
            self._receive(0.1)
        missing = sum(map(len, self._waiting.values()))
        return {"shown": len(self._taken), "missing": missing, **percentiles(self._taken)}

    def _connect(self, number: int) -> None:
        opening = Socket(number, self._host, self._port, "/ws", f"Cookie: {self._cookies[number]}\r\n")
        self._sockets[number] = opening
        self._selector.register(opening.wire, selectors.EVENT_READ, opening)

    def _come_or_go(self, number: int) -> None:
        going = self._sockets.pop(number, None)
        if going is None:
            self._connect(number)
        else:
            self._selector.unregister(going.wire)
            going.wire.close()

    def _receive(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            socket: Socket = key.data
            for kind, data, start, stop in socket.receive():
                if kind == PING:
                    socket.send(frame(data[start:stop], PONG))
                elif kind == CLOSE:
                    raise Closed(f"with code {int.from_bytes(data[start : start + 2], 'big')}")
                else:
                    self._show(socket.number, data[start:stop])

    def _show(self, number: int, shown: bytes) -> None:
        waiting = self._waiting.get(number)
        # What was gathered is shown by the last of it.
        while waiting and any(each.expected in shown for each in waiting):
            self._taken.append(time.perf_counter() - waiting.popleft().at)


def main() -> None:
    people = People()
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = getattr(people, job.pop("do"))(**job)
        except (Closed, OSError) as error:
            answer = {"error": str(error) or repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
