"""The WebSocket load, `python -m bench.generator`: one thread without an event loop.

It reads one job per line and answers each with one line, both JSON. It shares the cores with what it measures, so it
uses as little CPU as possible: it reads the headers of frames, finds the nonce, and compares the text.
"""

import json
import secrets
import selectors
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from bench.dialects import DIALECTS, LINE, NONCE_LENGTH, Dialect
from bench.frames import CLOSE, PING, PONG, Closed, Socket, frame

OPENING = 64
"""Sockets opened at a time."""
BACKLOG = 1.0
"""A step is given up once this many seconds' worth of messages are under way: its latencies are far too high."""
PATIENCE = 10.0
"""Seconds until a message that has not arrived counts as lost."""
PAUSE = 0.001
"""Seconds between two polls of the sockets at a high rate, so that each poll finds many frames."""
BOTH = 3
_LINE = LINE.encode()


@dataclass
class Sent:
    """The messages of one run, by the number at the end of their nonce."""

    run: bytes
    started: "array[float]" = field(default_factory=lambda: array("d"))
    sender: "array[int]" = field(default_factory=lambda: array("l"))
    seen: bytearray = field(default_factory=bytearray)
    latencies: list[float] = field(default_factory=list)
    duplicates: int = 0
    wrong: int = 0
    bytes_shown: int = 0

    def nonce(self, number: int) -> bytes:
        return b"%b%010d" % (self.run, number)


class Load:
    """All sockets; numbers 2n and 2n + 1 write to each other."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets: list[Socket] = []
        self._dialect = DIALECTS["knock"]
        self._parts: list[tuple[bytes, bytes, bytes]] = []
        self._sent = Sent(b"")

    def open(self, host: str, port: int, dialect: str, cookies: list[str], to: list[str]) -> dict[str, Any]:
        """Open a socket for each cookie; it writes to the name at the same place in `to`."""
        self._dialect = DIALECTS[dialect]
        began = time.perf_counter()
        waiting = list(range(len(self._sockets), len(cookies)))[::-1]
        under_way: set[int] = set()
        while waiting or under_way:
            while waiting and len(under_way) < OPENING:
                number = waiting.pop()
                headers = f"Cookie: {cookies[number]}\r\n" if cookies[number] else ""
                opening = Socket(number, host, port, self._dialect.path, headers)
                self._sockets.append(opening)
                self._parts.append(_parts(self._dialect, to[number]))
                self._selector.register(opening.wire, selectors.EVENT_READ, opening)
                under_way.add(number)
            some = self._ready(PATIENCE)
            if not some:
                raise Closed(f"{len(under_way)} sockets did not open")
            for ready in some:
                if ready.number not in under_way:
                    for _ in self._shown(ready):  # answers the server's pings
                        pass
                elif self._greet(ready):
                    under_way.remove(ready.number)
        return {"seconds": time.perf_counter() - began, "sockets": len(self._sockets)}

    def run(self, rate: float, seconds: float) -> dict[str, Any]:
        """Send `rate` messages a second, whether or not they arrive; then wait for the rest. Returns latencies."""
        sent = self._sent = Sent(secrets.token_hex(3).encode())
        count, people = int(rate * seconds), len(self._sockets)
        cpu, began = time.process_time(), time.perf_counter()
        bound = max(200, int(rate * BACKLOG))
        pause = PAUSE if rate >= 1000 else 0.0
        number = 0
        deadline = float("inf")
        while len(sent.latencies) < count:
            now = time.perf_counter()
            due = min(count, int((now - began) * rate) + 1)
            while number < due:
                # If this process was late to send it, the time counts from when it was due.
                planned = began + number / rate
                self._send(number, (number * 7919) % people, planned if now - planned > 2 * PAUSE else now)
                number += 1
            if number == count and deadline == float("inf"):
                deadline = now + PATIENCE
            if number - len(sent.latencies) > bound:
                count = number
            if now > deadline:
                break
            timeout = began + number / rate - now if number < count else 0.1
            if pause:
                time.sleep(pause)
                timeout = min(timeout, pause)
            for ready in self._ready(max(timeout, 0)):
                self._receive(ready)
        elapsed = max(seconds if count == int(rate * seconds) else 0.0, time.perf_counter() - began)
        return {
            "run": sent.run.decode(),
            "sent": number,
            "delivered": len(sent.latencies),
            "duplicates": sent.duplicates,
            "wrong": sent.wrong,
            "given_up": number < int(rate * seconds),
            "rate": len(sent.latencies) / elapsed,
            "seconds": elapsed,
            "cpu": time.process_time() - cpu,
            "frame_bytes": sent.bytes_shown / max(1, 2 * len(sent.latencies)),
            **percentiles(sent.latencies),
        }

    def fan_out(self, posts: int, gap: float) -> dict[str, Any]:
        """One post after another, each to every socket. Returns how long the last socket took."""
        sent = self._sent = Sent(secrets.token_hex(3).encode())
        for number in range(posts):
            shown: set[int] = set()
            self._send(number, 0, time.perf_counter())
            while len(shown) < len(self._sockets):
                ready = self._ready(PATIENCE)
                if not ready:
                    raise Closed(f"{len(self._sockets) - len(shown)} sockets did not show a post")
                for one in ready:
                    for data, nonce, start, stop in self._shown(one):
                        if nonce == sent.nonce(number) and data.find(self._body(nonce), start, stop) >= 0:
                            shown.add(one.number)
                            sent.bytes_shown += stop - start
                        else:
                            sent.wrong += 1
            sent.latencies.append(time.perf_counter() - sent.started[number])
            time.sleep(gap)
        return {
            "run": sent.run.decode(),
            "sent": posts,
            "delivered": len(sent.latencies),
            "wrong": sent.wrong,
            "frame_bytes": sent.bytes_shown / (posts * len(self._sockets)),
            **percentiles(sent.latencies),
        }

    def close(self) -> dict[str, Any]:
        for each in self._sockets:
            self._selector.unregister(each.wire)
            each.wire.close()
        self._sockets, self._parts = [], []
        return {}

    def _ready(self, timeout: float) -> list[Socket]:
        return [key.data for key, _ in self._selector.select(timeout)]

    def _send(self, number: int, sender: int, started: float) -> None:
        sent = self._sent
        nonce = sent.nonce(number)
        sent.started.append(started)
        sent.sender.append(sender)
        sent.seen.append(0)
        before, between, after = self._parts[sender]
        self._sockets[sender].send(b"%b%b%b%b%b" % (before, nonce, between, nonce, after))

    def _greet(self, opened: Socket) -> bool:
        """Whether the socket is open now. Socket.IO needs two more frames (Engine.IO 4, Socket.IO protocol 5)."""
        is_ready = False
        for first, data, start, stop in opened.receive():
            if first == CLOSE:
                raise Closed(f"with code {int.from_bytes(data[start : start + 2], 'big')}")
            if data[start : start + 1] == b"0":
                opened.send(frame(b"40"))
            is_ready = is_ready or data.startswith(b"40", start, stop)
        return is_ready if self._dialect.is_socket_io else opened.is_open

    def _shown(self, ready: Socket) -> Iterator[tuple[bytes, bytes, int, int]]:
        """The messages in the frames: the data, the nonce, where in the data they start and end. Raises Closed."""
        mark = self._dialect.mark
        for first, data, start, stop in ready.receive():
            at = data.find(mark, start, stop)
            if at >= 0:
                while at >= 0:  # a frame may contain several
                    nonce_at = at + len(mark)
                    following = data.find(mark, nonce_at, stop)
                    yield data, data[nonce_at : nonce_at + NONCE_LENGTH], start, stop if following < 0 else following
                    start = at = following
            elif first == PING:
                ready.send(frame(data[start:stop], PONG))
            elif first == CLOSE:
                raise Closed(f"with code {int.from_bytes(data[start : start + 2], 'big')}")
            elif self._dialect.is_socket_io and data[start:stop] == b"2":
                ready.send(frame(b"3"))

    def _receive(self, ready: Socket) -> None:
        """Count each copy of a message; its latency ends with the second copy."""
        sent, now = self._sent, time.perf_counter()
        for data, nonce, start, stop in self._shown(ready):
            if not nonce.startswith(sent.run):
                continue  # from the run before, which was given up
            message = int(nonce[len(sent.run) :])
            sender = sent.sender[message]
            if ready.number >> 1 != sender >> 1 or data.find(self._body(nonce), start, stop) < 0:
                sent.wrong += 1
                continue
            copy = 1 if ready.number == sender else 2
            if sent.seen[message] & copy:
                sent.duplicates += 1
                continue
            sent.seen[message] |= copy
            sent.bytes_shown += stop - start
            if sent.seen[message] == BOTH:
                sent.latencies.append(now - sent.started[message])

    def _body(self, nonce: bytes) -> bytes:
        return b"%b%b%b%b" % (self._dialect.opening, nonce, _LINE, self._dialect.closing)


def _parts(dialect: Dialect, to: str) -> tuple[bytes, bytes, bytes]:
    """A sender's frame, split at the two places of the nonce."""
    place = "#" * NONCE_LENGTH
    whole = frame(dialect.send(to, place, place + LINE).encode())
    before, between, after = whole.split(place.encode())
    return before, between, after


def percentiles(seconds: list[float]) -> dict[str, float]:
    """In milliseconds."""
    if len(seconds) < 2:
        return dict.fromkeys(("p50", "p90", "p95", "p99", "max"), 1e3 * seconds[0] if seconds else float("inf"))
    cuts = quantiles(seconds, n=100, method="inclusive")
    points = {f"p{point}": cuts[point - 1] * 1e3 for point in (50, 90, 95, 99)}
    return {**points, "max": max(seconds) * 1e3}


def main() -> None:
    load = Load()
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = getattr(load, job.pop("do"))(**job)
        except (Closed, OSError) as error:
            answer = {"error": str(error) or repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
