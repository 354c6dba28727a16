"""The other load, `python -m bench.browsers`: keep-alive HTTP clients that each ask again as soon as they are answered.

Like bench.generator it is one thread on bare sockets, and reads a job a line.
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
"""Where a request says this, each has a nonce of its own."""


class WrongAnswer(Exception):
    """The server said something else than it should; the text is what."""


@dataclass(slots=True)
class Client:
    """One connection; `request` is asked again and again."""

    wire: socket.socket
    request: str
    expected: bytes
    count: int
    """How often `expected` is to be in the answer."""
    asked: float = 0.0
    nonce: str = ""
    received: bytes = b""

    def ask(self, nonce: str) -> None:
        self.nonce, self.received, self.asked = nonce, b"", time.perf_counter()
        self.wire.sendall(self.request.replace(NONCE, nonce).encode())

    def hear(self) -> bool:
        """Whether the answer is whole now. Raises WrongAnswer."""
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
            raise WrongAnswer("the answer is not to what was asked")
        return True


def ask(
    host: str, port: int, requests: list[str], expected: str, count: int, seconds: float, clients: int
) -> dict[str, Any]:
    """Ask for `seconds`, each client one request of the list; every answer must have `count` times what is expected."""
    selector = selectors.DefaultSelector()
    run, number, answered = secrets.token_hex(3), 0, 0
    has_nonces = NONCE in requests[0]
    latencies: list[float] = []
    made = []
    for place in range(clients):
        wire = socket.create_connection((host, port), timeout=PATIENCE)
        client = Client(wire, requests[place % len(requests)], expected.encode(), count)
        selector.register(wire, selectors.EVENT_READ, client)
        made.append(client)
    cpu, began = time.process_time(), time.perf_counter()
    for client in made:
        client.ask(f"{run}{number:010}" if has_nonces else "")
        number += 1
    while answered < number:
        ready = selector.select(PATIENCE)
        if not ready:
            raise WrongAnswer("no answer in time")
        for key, _ in ready:
            client = key.data
            if client.hear():
                now = time.perf_counter()
                latencies.append(now - client.asked)
                answered += 1
                if now - began < seconds:
                    client.ask(f"{run}{number:010}" if has_nonces else "")
                    number += 1
    elapsed = time.perf_counter() - began
    for client in made:
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
            answer = ask(**job)
        except (WrongAnswer, OSError) as error:
            answer = {"error": str(error) or repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
