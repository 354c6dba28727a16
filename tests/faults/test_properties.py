"""Any order of sends, edits, removals, reads, cuts and cache fills: the model, the pages and PostgreSQL agree.

The parts are those of two web processes, in this one: the writer, the hub's frames, the cached lists and PostgreSQL. A
page is what it is in `tests/faults/page.py`, with its socket replaced by the frames that were published.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from secrets import token_hex
from typing import Any, TypeVar

import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.faults import audit
from tests.faults.page import Page, Shown
from tests.faults.parts import Parts, Somebody
from web import settings as environment
from web import site as sites
from web.chat import edits, history, lists, reactions, reading, search
from web.chat.cache import Latest
from web.chat.changes import Alter
from web.chat.conversations import Conversation
from web.chat.refusals import Refused
from web.chat.writer import Posted

T = TypeVar("T")

SIDES = st.sampled_from((0, 1))
RECENT = st.integers(0, 2)
"""How far back the message is."""
WHICH = st.integers(0, 1000)
"""Chooses one of what is there, modulo how many there are."""


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

    async def begin(self) -> tuple[list[Somebody], Conversation]:
        people = await self.parts.people(2)
        conversations = self.processes[0]["conversations"]
        conversation = await conversations.find(people[0].id, people[1].username)
        return people, await conversations.begin(conversation)


@dataclass
class Expected:
    """A message of the model."""

    side: int
    nonce: str
    body: str
    reply_to: int = 0
    reactions: set[tuple[str, int]] = field(default_factory=set)
    is_removed: bool = False


@pytest.fixture
def chat(parts: Parts) -> Iterator[Chat]:
    chat = Chat(parts)
    chat.do(chat.open())
    yield chat
    chat.do(chat.stack.aclose())
    chat.loop.close()


def test_every_order_ends_in_the_same_list(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "LATEST", 4)  # the index finds the others

    class Orders(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.people, self.conversation = chat.do(chat.begin())
            self.model: list[Expected] = []
            self.read_seq = [0, 0]
            self.late: list[str] = []
            """Frames that may arrive a second time, late."""
            self.is_connected = [True, True]
            http: ClientSession = None  # type: ignore[assignment]  # nothing goes over the network here
            self.pages = [Page(http, me, "", "") for me in self.people]

        @rule(side=SIDES, process=SIDES)
        def send(self, side: int, process: int) -> None:
            self._post(side, process, token_hex(8))

        @rule(process=SIDES, which=WHICH)
        def send_again(self, process: int, which: int) -> None:
            if self.model:
                message = self.model[which % len(self.model)]
                self._post(message.side, process, message.nonce)

        @rule(burst=st.lists(st.tuples(SIDES, SIDES), min_size=2, max_size=8))
        def send_at_once(self, burst: list[tuple[int, int]]) -> None:
            drafts = [(side, process, token_hex(8)) for side, process in burst]

            async def all_of_them() -> list[Posted]:
                return await asyncio.gather(*(self._write(*draft) for draft in drafts))

            for (side, _, nonce), posted in sorted(
                zip(drafts, chat.do(all_of_them()), strict=True), key=lambda each: each[1].message.seq
            ):
                self._posted(side, nonce, posted)

        @rule(process=SIDES, wanted=st.lists(st.tuples(SIDES, RECENT, st.booleans()), min_size=1, max_size=4))
        def edit_and_remove(self, process: int, wanted: list[tuple[int, int, bool]]) -> None:
            """By their author, and by the other one, who may not."""
            for side, back, removes in wanted:
                if back >= len(self.model):
                    continue
                seq = len(self.model) - back
                message = self.model[seq - 1]
                edited = f"edited {token_hex(4)}"
                alter: Alter = edits.remove if removes else partial(edits.edit, body=edited)
                is_allowed = message.side == side and not message.is_removed
                assert self._change(side, process, seq, alter) == is_allowed
                if is_allowed:
                    message.body, message.is_removed = ("", True) if removes else (edited, False)
                    if removes:
                        message.reply_to, message.reactions = 0, set()

        @rule(side=SIDES, process=SIDES, which=WHICH, emoji=st.sampled_from(reactions.QUICK))
        def react(self, side: int, process: int, which: int, emoji: str) -> None:
            if self.model:
                place = which % len(self.model)
                alter = partial(reactions.react, emoji=emoji)
                message = self.model[place]
                assert self._change(side, process, place + 1, alter) != message.is_removed
                if not message.is_removed:
                    message.reactions ^= {(emoji, side)}

        @rule(side=SIDES, process=SIDES, which=WHICH)
        def answer(self, side: int, process: int, which: int) -> None:
            """What is answered is edited and removed later; the lists compare what quotes of it show."""
            if self.model:
                nonce = token_hex(8)
                seq = which % len(self.model) + 1
                self._posted(side, nonce, chat.do(self._write(side, process, nonce, seq)), seq)

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

        @rule(side=SIDES, process=SIDES, which=WHICH)
        def open_the_page_with_only_the_newest(self, side: int, process: int, which: int) -> None:
            """As a page holds them that has not loaded the older ones."""
            page = self.pages[side]
            latest = chat.do(history.load_latest(chat.processes[process]["reader"], self.conversation))
            page.first_seq = latest.first_seq + which % (len(latest.messages) + 1)
            page.shown.clear()
            page.cursor = latest.version
            page.take(str(latest.html))
            self.is_connected[side] = True

        @rule(side=SIDES, which=WHICH)
        def a_frame_comes_late(self, side: int, which: int) -> None:
            if self.late and self.is_connected[side]:
                self.pages[side].take(self.late[which % len(self.late)])

        @rule(process=SIDES)
        def open_the_chat(self, process: int) -> None:
            """Fills the cached list if it is not there."""
            kept = chat.do(history.load_latest(chat.processes[process]["reader"], self.conversation))
            found = chat.do(chat.processes[process]["latests"].of(self.conversation, kept.version))
            assert (found.version, list(found.messages)) == (kept.version, list(kept.messages))

        @rule(process=SIDES)
        def a_slow_reader_fills_the_cache(self, process: int) -> None:
            async def fill() -> None:
                kept = await history.load_latest(chat.processes[process]["reader"], self.conversation)
                await self._write(0, 1 - process, nonce)
                await chat.processes[process]["latests"]._cached.fill(self.conversation.id, kept)

            nonce = token_hex(8)
            chat.do(fill())
            self._post(0, process, nonce)

        @rule()
        def redis_forgets(self) -> None:
            chat.parts.valkey.flushall()

        @rule(side=SIDES)
        def read(self, side: int) -> None:
            cursor = self.pages[side].cursor
            chat.do(reading.mark(chat.processes[0]["reader"], self.people[side].id, self.conversation.id, cursor))
            shown = [row.seq for row in self._rows() if row.seq <= cursor and row.version <= cursor]
            self.read_seq[side] = max([self.read_seq[side], *shown])

        @rule(side=SIDES, which=WHICH)
        def mark_unread(self, side: int, which: int) -> None:
            async def mark() -> None:
                async with chat.processes[0]["db"].begin() as db:
                    await reading.mark_unread(db, self.people[side].id, self.conversation.id, seq)

            if self.model:
                seq = which % len(self.model) + 1
                chat.do(mark())
                self.read_seq[side] = min(self.read_seq[side], seq - 1)

        @rule(side=SIDES, which=WHICH, length=st.integers(3, 8))
        def search(self, side: int, which: int, length: int) -> None:
            """For the beginning of a word that is or was in some message; "said" may be in more than a page has."""

            async def find() -> list[search.Hit]:
                while await search.index_some(chat.processes[0]["db"]):
                    pass  # also the messages of examples before this one
                async with chat.processes[0]["db"]() as db:
                    return await search.find(db, self.people[side].id, search.parse(word), None, "newest", 0)

            if self.model:
                message = self.model[which % len(self.model)]
                word = (message.body or f"said {message.nonce}").split()[1][:length]
                found = [hit.seq for hit in chat.do(find())]
                latest = len(self.model) - search.LATEST
                assert sorted(found) == [
                    seq
                    for seq, it in enumerate(self.model, 1)
                    if any(each.startswith(word) or (seq > latest and word in each) for each in it.body.split())
                ]

        @invariant()
        def the_list_counts_what_is_unread(self) -> None:
            reader, here = chat.processes[0]["reader"], self.conversation.id
            entries = chat.do(lists.entries(reader, [(here, person.id) for person in self.people]))
            by_user = {entry.user_id: entry for entry in entries}
            for side, person in enumerate(self.people):
                if self.model:
                    entry = by_user[person.id]
                    counted = entry.unread, entry.their_read
                    assert counted == (len(self.model) - self.read_seq[side], self.read_seq[1 - side])

        @invariant()
        def postgresql_is_the_model(self) -> None:
            names = [person.username for person in self.people]
            assert [(row.author, row.nonce, row.body, row.quote, row.reactions) for row in self._rows()] == [
                (names[it.side], it.nonce, it.body, self._quote(it), self._reactions(it)) for it in self.model
            ]

        @invariant()
        def a_page_misses_nothing_up_to_its_cursor_and_has_no_gap(self) -> None:
            rows = self._rows()
            for page, is_connected in zip(self.pages, self.is_connected, strict=True):
                wanted = [row for row in rows if row.seq >= page.first_seq]
                assert [row for row in page.list if row.seq < page.first_seq] == []
                assert [row for row in wanted if row.version <= page.cursor and page.shown.get(row.seq) != row] == []
                assert not is_connected or page.list == wanted

        @invariant()
        def a_cached_list_of_this_version_is_postgresqls(self) -> None:
            async def both() -> tuple[Latest, Latest | None]:
                await asyncio.sleep(0.002)  # Redis takes what waits for it
                site = chat.processes[0]
                kept = await history.load_latest(site["reader"], self.conversation)
                return kept, await site["latests"]._cached.read(self.conversation.id, kept.version)

            kept, found = chat.do(both())
            assert found is None or list(found.messages) == list(kept.messages)

        def teardown(self) -> None:
            for side, page in enumerate(self.pages):
                self._catch_up(side, side)
                assert page.list == [row for row in self._rows() if row.seq >= page.first_seq]

        def _rows(self) -> list[Shown]:
            return [Shown(*row) for row in chat.parts.query(audit.SHOWN, self.conversation.id)]

        def _quote(self, message: Expected) -> str:
            seq = message.reply_to
            return f"{seq} {self.model[seq - 1].body or 'gone'}" if seq else ""

        def _reactions(self, message: Expected) -> str:
            return " ".join(sorted(f"{emoji} {self.people[side].username}" for emoji, side in message.reactions))

        async def _write(self, side: int, process: int, nonce: str, reply_to: int = 0) -> Posted:
            messages = chat.processes[process]["messages"]
            me, other = self.people[side], self.people[1 - side]
            answered = str(reply_to or "")
            posted: Posted = await (await messages.post(me.id, other.username, f"said {nonce}", nonce, answered))
            return posted

        def _post(self, side: int, process: int, nonce: str) -> None:
            self._posted(side, nonce, chat.do(self._write(side, process, nonce)))

        def _posted(self, side: int, nonce: str, posted: Posted, reply_to: int = 0) -> None:
            """Add it to the model, and show it on the pages that are connected. Whoever writes has read all before."""
            if nonce not in [message.nonce for message in self.model]:
                self.model.append(Expected(side, nonce, f"said {nonce}", reply_to))
                self.read_seq[side] = len(self.model)
            self._arrive(posted.swap)

        def _change(self, side: int, process: int, seq: int, alter: Alter) -> bool:
            """Change a message as one of the people would. Returns whether they may."""
            me, other = self.people[side], self.people[1 - side]
            try:
                made = chat.do(chat.processes[process]["changes"].make(me.id, other.username, seq, alter))
            except Refused:
                return False
            self._arrive(made.swap)
            return True

        def _arrive(self, frame: str) -> None:
            self.late.append(frame)
            for page, is_connected in zip(self.pages, self.is_connected, strict=True):
                if is_connected:
                    page.take(frame)

        def _catch_up(self, side: int, process: int) -> None:
            page = self.pages[side]

            async def catch_up() -> None:
                more = True
                while more:
                    reader, me = chat.processes[process]["reader"], self.people[side].id
                    found = await history.after(reader, self.conversation, me, page.cursor, page.first_seq)
                    page.take("".join(found.messages) + f'<input id="cursor" name="after" value="{found.reached}">')
                    more = found.more

            chat.do(catch_up())

    run_state_machine_as_test(
        Orders,
        settings=settings(
            max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
