"""Edits and removals, at the level of `web/chat`: who may make them, and what every reader of a message then finds."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import redis

from tests.chat.test_cache import cached
from tests.site import Person, Tab, eventually
from web import settings
from web import site as sites
from web.chat import changes, history
from web.chat.changes import Change
from web.chat.conversations import Conversation


@dataclass
class Chat:
    """Alice and Bob's chat, in a process of the test's own."""

    site: Any
    conversation: Conversation
    alice_id: int
    bob_id: int

    async def change(
        self, made: Callable[..., Awaitable[Change | None]], author: int, *values: object
    ) -> Change | None:
        async with self.site["db"].begin() as db:
            change = await made(db, self.conversation, author, *values)
        if change is not None:
            self.site["announcer"].announce(change)
        return change


Use = Callable[[Chat], Awaitable[None]]


@pytest.fixture
def chat(alice: Person, bob: Person, environ: dict[str, str], postgres: psycopg.Connection) -> Callable[[Use], None]:
    """Runs a coroutine with the chat."""
    ids = {str(name): int(id) for name, id in postgres.execute("SELECT username, id FROM users").fetchall()}

    def run(use: Use) -> None:
        async def opened() -> None:
            async with sites.running(settings.read({**environ, "PORT": "8000"})) as site:
                conversation = await site["conversations"].find(ids["alice"], "bob")
                await use(Chat(site, conversation, ids["alice"], ids["bob"]))

        asyncio.run(opened())

    return run


def test_an_edit_reaches_pages_the_cached_list_and_the_chat_list(
    alice: Person, bob: Person, chat: Callable[[Use], None], valkey: redis.Redis
) -> None:
    for body in ("one", "two", "thre"):
        alice.post("bob", body)
    bob.page("/chat/alice")
    eventually(lambda: len(cached(valkey) or []) == 4)
    with alice.socket() as hers, bob.socket() as his:

        async def use(here: Chat) -> None:
            assert await here.change(changes.edit, here.alice_id, 3, "three")
            await asyncio.to_thread(_see_edit, hers)
            await asyncio.to_thread(_see_edit, his)

        chat(use)
        assert "three" in his.entry().get_text()

    held = cached(valkey) or []
    assert held[0] == "4:3"
    assert [body in item for body, item in zip(("one", "two", "three"), held[1:], strict=True)] == [True, True, True]
    page = bob.page("/chat/alice")
    assert page.bodies == ["one", "two", "three"]
    assert page.one("[data-edited]")["data-seq"] == "3"


def _see_edit(tab: Tab) -> None:
    message = tab.message()
    assert (message.seq, message.version, message.body) == (3, 4, "three")


def test_what_was_removed_is_gone_and_cannot_be_changed_again(
    alice: Person, bob: Person, chat: Callable[[Use], None], postgres: psycopg.Connection
) -> None:
    alice.post("bob", "a secret")

    async def use(here: Chat) -> None:
        assert await here.change(changes.remove, here.alice_id, 1)
        assert await here.change(changes.edit, here.alice_id, 1, "back again") is None
        assert await here.change(changes.remove, here.alice_id, 1) is None

    chat(use)
    assert postgres.execute("SELECT body, version FROM messages").fetchall() == [("", 2)]
    page = bob.page("/chat/alice")
    assert page.bodies == [""]
    assert page.one("[data-removed]")["data-seq"] == "1"
    assert "a secret" not in page.response.text


def test_nobody_changes_what_somebody_else_wrote_or_what_is_not_there(
    alice: Person, bob: Person, chat: Callable[[Use], None], postgres: psycopg.Connection
) -> None:
    alice.post("bob", "hers")

    async def use(here: Chat) -> None:
        assert await here.change(changes.edit, here.bob_id, 1, "his") is None
        assert await here.change(changes.remove, here.bob_id, 1) is None
        assert await here.change(changes.edit, here.alice_id, 2, "nothing there") is None

    chat(use)
    assert postgres.execute("SELECT body, version FROM messages").fetchall() == [("hers", 1)]
    assert postgres.execute("SELECT version FROM conversations").fetchone() == (1,)


def test_a_catch_up_leaves_out_changes_of_messages_that_the_page_does_not_show(
    alice: Person, bob: Person, chat: Callable[[Use], None]
) -> None:
    for body in ("one", "two", "three"):
        alice.post("bob", body)

    async def use(here: Chat) -> None:
        assert await here.change(changes.edit, here.alice_id, 1, "one, edited")
        assert await here.change(changes.edit, here.alice_id, 3, "three, edited")
        found = await history.after(here.site["reader"], here.conversation, here.alice_id, 3, first_seq=2)
        assert (len(found.messages), found.reached, found.more) == (1, 5, False)

    chat(use)
    assert bob.page("/chat/alice/messages?after=3").bodies == ["one, edited", "three, edited"]
    page = bob.page("/chat/alice/messages?after=3&first=2")
    assert page.bodies == ["three, edited"]
    assert page.one("#cursor")["value"] == "5"


def test_a_message_that_was_edited_is_answered_as_it_is_now_when_it_is_sent_again(
    alice: Person, bob: Person, chat: Callable[[Use], None]
) -> None:
    alice.post("bob", "frist", nonce="n")

    async def use(here: Chat) -> None:
        assert await here.change(changes.edit, here.alice_id, 1, "first")

    chat(use)
    with alice.socket() as hers:
        hers.write("bob", "frist", nonce="n")
        assert hers.message().body == "first"
