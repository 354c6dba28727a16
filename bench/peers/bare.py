"""The ceilings of uvicorn: ASGI applications that store and render nothing.

`relay` sends each frame to its recipient and back to its sender, `fan_out` to everybody, padded to FRAME bytes.
"""

import os
from typing import Any

import orjson

sockets: dict[str, Any] = {}
padding = " " * int(os.environ.get("FRAME", "0"))


async def relay(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        return
    me = dict(scope["headers"])[b"cookie"].decode().removeprefix("user=")
    await receive()
    await send({"type": "websocket.accept"})
    sockets[me] = send
    while (event := await receive())["type"] == "websocket.receive":
        frame = event["text"]
        shown = {"type": "websocket.send", "text": frame + padding[len(frame) :]}
        await sockets[orjson.loads(frame)["to"]](shown)
        await send(shown)


async def fan_out(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    sockets[str(len(sockets))] = send
    while (event := await receive())["type"] == "websocket.receive":
        frame = event["text"]
        shown = {"type": "websocket.send", "text": frame + padding[len(frame) :]}
        for one in sockets.values():
            await one(shown)
