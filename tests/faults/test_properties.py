"""Any order of sends, reads, cuts, catch-ups and cache fills: the model's list, the page's and PostgreSQL's are equal.

The parts are those of a web process, in this one: the writer, the hub's frames, the cached lists and PostgreSQL. A page
here is what it is in `tests/faults/page.py`, with its socket replaced by the frames that were published.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from secrets import token_hex
from typing import Any, TypeVar

import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.faults.page import Page, Shown
from tests.faults.parts import Parts, Somebody
from web import settings as environment
from web import site as sites
from web.chat import conversations, lists, messages
from web.chat.conversations import Pair
from web.chat.messages import Posted

T = TypeVar("T")

SIDES = st.sampled_from((0, 1))


class Chat:
    """A new chat of two people, in two processes; kept on one event loop for the whole test."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()

    def do(self, what: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(what)

    async def open(self) -> None:
        chosen = environment.read({**self.parts.environ, "PORT": "8000"})
        self.processes = [await self.stack.enter_async_context(sites.running(chosen)) for _ in range(2)]

    async def begin(self) -> tuple[list[Somebody], Pair]:
        people = await self.parts.people(2)
        pair = await self.processes[0]["pairs"].find(people[0].id, people[1].username)
        assert pair is not None
        return people, pair


@pytest.fixture
def chat(parts: Parts) -> Iterator[Chat]:
    chat = Chat(parts)
    chat.do(chat.open())
    yield chat
    chat.do(chat.stack.aclose())
    chat.loop.close()


def test_every_order_ends_in_the_same_list(chat: Chat) -> None:
    class Orders(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.people, self.pair = chat.do(chat.begin())
            self.model: list[tuple[int, str]] = []
            """Author and nonce of each message, in order."""
            self.late: list[str] = []
            """Frames that were lost on their way to a page, and may come late."""
            self.is_connected = [True, True]
            http: ClientSession = None  # type: ignore[assignment]  # nothing goes over the network here
            self.pages = [Page(http, me, "", "") for me in self.people]
            self.sent: list[tuple[int, str]] = []

        @rule(side=SIDES, process=SIDES)
        def send(self, side: int, process: int) -> None:
            self._post(side, process, token_hex(8))

        @rule(process=SIDES, again=st.integers(0, 1000))
        def send_again(self, process: int, again: int) -> None:
            if self.sent:
                side, nonce = self.sent[again % len(self.sent)]
                self._post(side, process, nonce)

        @rule(burst=st.lists(st.tuples(SIDES, SIDES), min_size=2, max_size=8))
        def send_at_once(self, burst: list[tuple[int, int]]) -> None:
            drafts = [(side, process, token_hex(8)) for side, process in burst]

            async def all_of_them() -> list[Posted]:
                return await asyncio.gather(*(self._write(*draft) for draft in drafts))

            for (side, _, nonce), posted in sorted(
                zip(drafts, chat.do(all_of_them()), strict=True), key=lambda each: each[1].seq
            ):
                self._posted(side, nonce, posted)

        @rule(side=SIDES)
        def cut(self, side: int) -> None:
            self.is_connected[side] = False

        @rule(side=SIDES, process=SIDES)
        def come_back(self, side: int, process: int) -> None:
            self.is_connected[side] = True
            self._catch_up(side, process)

        @rule(side=SIDES, process=SIDES)
        def catch_up_once_more(self, side: int, process: int) -> None:
            self._catch_up(side, process)

        @rule(side=SIDES, which=st.integers(0, 1000))
        def an_old_frame_comes_late(self, side: int, which: int) -> None:
            if self.late and self.is_connected[side]:
                self.pages[side].take(self.late[which % len(self.late)])

        @rule(side=SIDES, process=SIDES)
        def open_the_page(self, side: int, process: int) -> None:
            """From the cached list, where there is one that is not too old."""

            async def latest() -> Any:
                kept = await messages.load_latest(chat.processes[process]["reader"], self.pair)
                found = await chat.processes[process]["latests"].of(self.pair, kept.version)
                return kept, found

            kept, found = chat.do(latest())
            assert (found.version, list(found.messages)) == (kept.version, list(kept.messages))

        @rule(process=SIDES)
        def a_slow_reader_fills_the_cache(self, process: int) -> None:
            async def fill() -> None:
                kept = await messages.load_latest(chat.processes[process]["reader"], self.pair)
                await self._write(0, 1 - process, nonce)
                await chat.processes[process]["latests"]._cached.fill(self.pair.id, kept)

            nonce = token_hex(8)
            chat.do(fill())
            self._post(0, process, nonce)

        @rule()
        def redis_forgets(self) -> None:
            chat.parts.valkey.flushall()

        @rule(side=SIDES)
        def read(self, side: int) -> None:
            async def mark() -> int:
                reader, me = chat.processes[0]["reader"], self.people[side].id
                await conversations.mark_read(reader, me, self.pair.id, self.pages[side].cursor)
                lines = await lists.entries(reader, [(self.pair.id, me)])
                return lines[0][1].unread if lines else 0

            # Whoever writes has read what stands above; nothing that the page did not show is taken for read else.
            mine = [number for number, (author, _) in enumerate(self.model, 1) if author == side]
            seen = max(self.pages[side].cursor, mine[-1] if mine else 0)
            assert chat.do(mark()) <= len(self.model) - min(seen, len(self.model))

        @invariant()
        def postgresql_is_the_model(self) -> None:
            assert [(row.author, row.nonce) for row in self._rows()] == [
                (self.people[side].username, nonce) for side, nonce in self.model
            ]

        @invariant()
        def a_page_misses_nothing_below_its_cursor(self) -> None:
            rows = self._rows()
            for page, is_connected in zip(self.pages, self.is_connected, strict=True):
                assert page.list[: page.cursor] == rows[: page.cursor]
                assert not is_connected or page.list == rows

        def teardown(self) -> None:
            for side in (0, 1):
                self._catch_up(side, side)
                assert self.pages[side].list == self._rows()

        def _rows(self) -> list[Shown]:
            return [
                Shown(*row)
                for row in chat.parts.query(
                    "SELECT seq, version, username, nonce, body FROM messages JOIN users ON users.id = author_id"
                    " WHERE conversation_id = %s ORDER BY seq",
                    self.pair.id,
                )
            ]

        async def _write(self, side: int, process: int, nonce: str) -> Posted:
            writer = chat.processes[process]["writer"]
            posted: Posted = await writer.write(self.pair, self.people[side].id, f"said {nonce}", nonce)
            return posted

        def _post(self, side: int, process: int, nonce: str) -> None:
            self._posted(side, nonce, chat.do(self._write(side, process, nonce)))

        def _posted(self, side: int, nonce: str, posted: Posted) -> None:
            """What the model, and the pages that are connected, hear of it."""
            if (side, nonce) not in self.model:
                self.model.append((side, nonce))
                self.sent.append((side, nonce))
            self.late.append(posted.swap)
            for page, is_connected in zip(self.pages, self.is_connected, strict=True):
                if is_connected:
                    page.take(posted.swap)

        def _catch_up(self, side: int, process: int) -> None:
            page = self.pages[side]

            async def changes() -> None:
                more = True
                while more:
                    reader = chat.processes[process]["reader"]
                    items, reached, more = await messages.after(reader, self.pair, page.cursor)
                    page.take("".join(items) + f'<input id="cursor" name="after" value="{reached}">')

            chat.do(changes())

    run_state_machine_as_test(
        Orders,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
