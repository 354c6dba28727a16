"""The HTTP load, `python -m bench.browsers`: keep-alive clients that repeat a request as soon as it is answered.

Like bench.generator it is one thread on bare sockets and reads one job per line.
"""

import json
import secrets
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

from bench.generator import percentiles

CHUNK = 96 * 1024
PATIENCE = 10.0
NONCE = "{nonce}"
"""Replaced by a new nonce each time a request is sent."""


class WrongAnswer(Exception):
    """The server gave an unexpected answer; the text describes it."""


@dataclass(slots=True)
class Client:
    """One connection, which sends `request` again and again."""

    wire: socket.socket
    request: str
    expected: bytes
    count: int
    """How often `expected` must be in the answer."""
    sent_at: float = 0.0
    nonce: str = ""
    received: bytes = b""

    def send(self, nonce: str) -> None:
        self.nonce, self.received, self.sent_at = nonce, b"", time.perf_counter()
        self.wire.sendall(self.request.replace(NONCE, nonce).encode())

    def receive(self) -> bool:
        """Whether the answer is complete now. Raises WrongAnswer."""
        chunk = self.wire.recv(CHUNK)
        if not chunk:
            raise WrongAnswer("the connection ended")
        self.received = self.received + chunk if self.received else chunk
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator:
            return False
        at = head.lower().index(b"content-length:") + len(b"content-length:")
        if len(body) < int(head[at:].split(b"\r\n", 1)[0]):
            return False
        if not head.startswith(b"HTTP/1.1 200 ") or body.count(self.expected) != self.count:
            raise WrongAnswer(f"{head.decode()} with {body.count(self.expected)} × {self.expected.decode()}")
        if self.nonce and self.nonce.encode() not in body:
            raise WrongAnswer("the answer is to another request")
        return True


def fetch(
    host: str, port: int, requests: list[str], expected: str, count: int, seconds: float, clients: int
) -> dict[str, Any]:
    """Repeat the requests for `seconds`, each client one of them; each answer must contain `expected` `count` times."""
    selector = selectors.DefaultSelector()
    run, number, answered = secrets.token_hex(3), 0, 0
    has_nonces = NONCE in requests[0]
    latencies: list[float] = []
    opened = []
    for place in range(clients):
        wire = socket.create_connection((host, port), timeout=PATIENCE)
        client = Client(wire, requests[place % len(requests)], expected.encode(), count)
        selector.register(wire, selectors.EVENT_READ, client)
        opened.append(client)
    cpu, began = time.process_time(), time.perf_counter()
    for client in opened:
        client.send(f"{run}{number:010}" if has_nonces else "")
        number += 1
    while answered < number:
        ready = selector.select(PATIENCE)
        if not ready:
            raise WrongAnswer("no answer in time")
        for key, _ in ready:
            client = key.data
            if client.receive():
                now = time.perf_counter()
                latencies.append(now - client.sent_at)
                answered += 1
                if now - began < seconds:
                    client.send(f"{run}{number:010}" if has_nonces else "")
                    number += 1
    elapsed = time.perf_counter() - began
    for client in opened:
        client.wire.close()
    return {
        "run": run,
        "delivered": answered,
        "rate": answered / elapsed,
        "cpu": time.process_time() - cpu,
        "elapsed": elapsed,
        **percentiles(latencies),
    }


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        job.pop("do")
        try:
            answer = fetch(**job)
        except (WrongAnswer, OSError) as error:
            answer = {"error": str(error) or repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
