"""A page that does not read what it is sent: little waits for it, and it is cut with 1013."""

import asyncio
from datetime import UTC, datetime

import pytest
from starlette.types import Message
from starlette.websockets import WebSocket

from web.accounts.sessions import SignedIn
from web.live import socket
from web.live.socket import OVERLOAD, Socket

LATE = datetime.max.replace(tzinfo=UTC)
ALICE = SignedIn(1, "alice", b"session", LATE, LATE, "alice", None, None, False)


@pytest.mark.parametrize(
    ("size", "fit"),
    [(100, socket.BOUND), (100_000, socket.BOUND_BYTES // 100_100), (2 * socket.BOUND_BYTES, 0)],
)
def test_only_so_much_waits_for_a_page_that_does_not_read(size: int, fit: int) -> None:
    async def run() -> None:
        sent: list[Message] = []
        reads = asyncio.Event()

        async def send(message: Message) -> None:
            """As the server does: it takes a frame, and returns when the kernel has room again."""
            sent.append(message)
            await reads.wait()

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        websocket = WebSocket({"type": "websocket", "headers": []}, receive, send)
        reads.set()
        await websocket.accept()
        reads.clear()
        page = Socket(websocket, send, ALICE)

        page.push("<p>the first one is on its way</p>")
        for _ in range(fit):
            page.push("x" * size)
            assert not page.closing
        page.push("x" * size)
        assert page.closing

        reads.set()
        await asyncio.sleep(0.1)
        assert sent[-1]["code"] == OVERLOAD
        assert len(sent) == 3  # accepted, the first frame, closed

    asyncio.run(run())


def test_what_waited_arrives_in_order_once_the_page_reads_again() -> None:
    async def run() -> None:
        sent: list[str] = []
        reads = asyncio.Event()

        async def send(message: Message) -> None:
            sent.append(message["text"])
            await reads.wait()

        page = Socket(WebSocket({"type": "websocket", "headers": []}, send, send), send, ALICE)  # type: ignore[arg-type]
        for round in range(20):  # more in all than may wait at a time
            frames = [f"{round}.{number}" + 60_000 * "x" for number in range(16)]
            for frame in frames:
                page.push(frame)
            reads.set()
            for _ in range(100):
                await asyncio.sleep(0)
            assert sent == frames
            sent.clear()
            reads.clear()
        assert not page.closing

    asyncio.run(run())
