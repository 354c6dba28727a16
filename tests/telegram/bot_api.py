"""A small Bot API server at the wire: the methods that Knock calls, failures on order, and a record of every call.

In tests: `with bot_api.running() as telegram:`. As a process: `python -m tests.telegram.bot_api PORT`, controlled by

- `GET /calls?method=sendMessage`: the calls so far, each with its method, parameters, time and answer;
- `POST /updates`: a JSON list of messages for the bot, `{"chat_id": 7, "text": "/start", "first_name": "Alice"}`;
- `POST /script`: a JSON list of answers to give instead, to the next call, or to the next of a `method` or a `chat_id`:
  `{"retry_after": 7}`, `{"status": 403, "description": "…"}`, `{"html": 502}`, `{"hang": 30}`,
  `{"redirect": "http://…"}`; `"times"` repeats one (0 is for ever), `{"clear": true}` forgets them all;
- `GET /cards?chat_id=7`: the texts that the chat shows now.
"""

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

TOKEN = "123456:TEST-TOKEN-of-a-bot-that-does-not-exist"
USERNAME = "knock_test_bot"


@dataclass
class Call:
    """One request, as the Bot API saw it."""

    method: str
    chat_id: int | None
    parameters: dict[str, str]
    at: float
    """Seconds since 1970."""
    status: int = 0
    """Of the answer; 0 until then."""


@dataclass
class Order:
    """How to answer a call instead of doing it."""

    answer: dict[str, Any]
    method: str | None = None
    chat_id: int | None = None
    times: int = 1
    """0 is for ever."""

    def is_for(self, call: Call) -> bool:
        return self.method in (None, call.method) and self.chat_id in (None, call.chat_id)


@dataclass
class FakeTelegram:
    """The state of the Bot API: the cards of each chat, the updates that are not confirmed yet, the orders."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    cards: dict[int, dict[int, str]] = field(default_factory=dict)
    updates: list[dict[str, Any]] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    last_update_id: int = 1000
    last_message_id: int = 0
    polls: int = 0
    conflicts: int = 0
    """How often one bot's poll was ended by another's."""

    def called(self, *methods: str, chat_id: int | None = None) -> list[Call]:
        """The calls of these methods (by default, those that show something), to one chat or to all."""
        methods = methods or ("sendMessage", "editMessageText", "deleteMessage")
        return [call for call in self.calls if call.method in methods and chat_id in (None, call.chat_id)]

    def shown(self, chat_id: int) -> list[str]:
        return list(self.cards.get(chat_id, {}).values())

    def write(self, chat_id: int, text: str, first_name: str = "Somebody", **more: Any) -> int:
        """Somebody writes to the bot. Returns the update's id."""
        self.last_update_id += 1
        self.last_message_id += 1
        message = {
            "message_id": self.last_message_id,
            "date": int(time.time()),
            "chat": {"id": chat_id, "type": more.pop("chat_type", "private")},
            "from": {"id": chat_id, "is_bot": False, "first_name": first_name, **more},
            "text": text,
        }
        self.updates.append({"update_id": self.last_update_id, "message": message})
        return self.last_update_id

    def forget(self) -> None:
        """Forget the calls, the orders and the cards."""
        self.calls.clear()
        self.orders.clear()
        self.cards.clear()

    def order(self, answer: dict[str, Any], **which: Any) -> None:
        self.orders.append(Order(answer, **which))

    def refuse(self, status: int, description: str, **which: Any) -> None:
        self.order({"status": status, "description": description}, **which)

    async def answer(self, request: Request) -> Response:
        """One call of the Bot API."""
        form = {name: str(value) for name, value in (await request.form()).items()}
        method = request.path_params["method"]
        chat_id = int(form["chat_id"]) if "chat_id" in form else None
        call = Call(method, chat_id, form, time.time())
        if method != "getUpdates":
            self.calls.append(call)
        order = next((order for order in self.orders if order.is_for(call)), None)
        if order:
            order.times -= 1
            if order.times == 0:
                self.orders.remove(order)
            response = await _ordered(order.answer)
        else:
            response = await self._do(call)
        call.status = response.status_code
        return response

    async def _do(self, call: Call) -> Response:
        form, chat_id = call.parameters, call.chat_id or 0
        cards = self.cards.setdefault(chat_id, {}) if call.chat_id else {}
        if call.method == "getMe":
            return _ok({"id": 123456, "is_bot": True, "first_name": "Knock", "username": USERNAME})
        if call.method == "getUpdates":
            return await self._wait_for_updates(int(form.get("offset", 0)), float(form.get("timeout", 0)))
        if call.method == "sendMessage":
            if not form.get("text"):
                return _error(400, "Bad Request: message text is empty")
            self.last_message_id += 1
            cards[self.last_message_id] = form["text"]
            return _ok(_message(chat_id, self.last_message_id, form["text"]))
        card_id = int(form.get("message_id", 0))
        if call.method == "editMessageText":
            if card_id not in cards:
                return _error(400, "Bad Request: message to edit not found")
            if cards[card_id] == form["text"]:
                return _error(400, "Bad Request: message is not modified: specified new message content is the same")
            cards[card_id] = form["text"]
            return _ok(_message(chat_id, card_id, form["text"]))
        if call.method == "deleteMessage":
            if cards.pop(card_id, None) is None:
                return _error(400, "Bad Request: message to delete not found")
            return _ok(True)
        return _error(404, "Not Found: method not found")

    async def _wait_for_updates(self, offset: int, seconds: float) -> Response:
        """As Telegram does: an offset confirms what is below it, and only one poll is open at a time."""
        self.polls += 1
        mine, until = self.polls, time.monotonic() + seconds
        self.updates = [update for update in self.updates if update["update_id"] >= offset]
        while self.polls == mine:
            if self.updates or time.monotonic() > until:
                return _ok(self.updates[:100])
            await asyncio.sleep(0.02)
        self.conflicts += 1
        return _error(409, "Conflict: terminated by other getUpdates request; make sure that only one bot is running")

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/calls", self._calls),
                Route("/cards", self._cards),
                Route("/updates", self._updates, methods=["POST"]),
                Route("/script", self._script, methods=["POST"]),
                Route("/bot{token}/{method}", self.answer, methods=["GET", "POST"]),
            ]
        )

    async def _calls(self, request: Request) -> Response:
        method = request.query_params.get("method")
        return JSONResponse([asdict(call) for call in self.calls if method in (None, call.method)])

    async def _cards(self, request: Request) -> Response:
        return JSONResponse(self.shown(int(request.query_params["chat_id"])))

    async def _updates(self, request: Request) -> Response:
        return JSONResponse([self.write(**message) for message in await request.json()])

    async def _script(self, request: Request) -> Response:
        for order in await request.json():
            if order.pop("clear", False):
                self.orders.clear()
                continue
            which = {name: order.pop(name) for name in ("method", "chat_id", "times") if name in order}
            self.order(order, **which)
        return JSONResponse(len(self.orders))


def _message(chat_id: int, message_id: int, text: str) -> dict[str, Any]:
    chat = {"id": chat_id, "type": "private"}
    return {"message_id": message_id, "date": int(time.time()), "chat": chat, "text": text}


def _ok(result: object) -> Response:
    return JSONResponse({"ok": True, "result": result})


def _error(status: int, description: str, **parameters: int) -> Response:
    body = {"ok": False, "error_code": status, "description": description, "parameters": parameters or None}
    return JSONResponse({name: value for name, value in body.items() if value is not None}, status)


async def _ordered(answer: dict[str, Any]) -> Response:
    if "hang" in answer:
        await asyncio.sleep(answer["hang"])
        return _error(500, "Internal Server Error: it hung")
    if "redirect" in answer:
        return RedirectResponse(answer["redirect"])
    if "html" in answer:
        return HTMLResponse("<html><body><h1>502 Bad Gateway</h1></body></html>", answer["html"])
    if "retry_after" in answer:
        seconds = answer["retry_after"]
        return _error(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)
    return _error(answer["status"], answer["description"])


@contextmanager
def running(port: int = 0) -> Iterator[FakeTelegram]:
    """The server in a thread of this process, at `url`; on any free port unless one is given."""
    fake = FakeTelegram()
    with socket.create_server(("127.0.0.1", port)) as listening:
        fake.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(fake.app(), log_config=None, timeout_graceful_shutdown=1, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield fake
        finally:
            server.should_exit = server.force_exit = True
            thread.join(timeout=10)


if __name__ == "__main__":
    uvicorn.run(FakeTelegram().app(), host="0.0.0.0", port=int(sys.argv[1]), lifespan="off")
