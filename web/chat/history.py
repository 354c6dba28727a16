"""What a page shows of a conversation: the latest messages, older ones, and what has changed since a version."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup
from sqlalchemy import BigInteger, bindparam, select, true

from web.chat import fragments, stored
from web.chat.cache import LENGTH, Cache, Latest
from web.chat.conversations import Conversation, Message
from web.data import models
from web.data.questions import Question, Reader, outer_join

LINGER = 1.0
"""Seconds for which a list that was loaded is shared without asking again."""
CHANGES = 200
"""Messages in one page of a catch-up."""


class Head(NamedTuple):
    """How far a conversation has got."""

    conversation_version: int
    last_seq: int


class Page(NamedTuple):
    """Messages of a conversation, rendered, oldest first, and from which `seq` up to which a reader has them then."""

    html: Markup
    first_seq: int
    last_seq: int | None
    """None: up to the newest one, and whatever comes after it."""


class Changes(NamedTuple):
    """A page of a catch-up: the messages, rendered, the version that they lead to, and whether more follow."""

    messages: Sequence[Markup]
    reached: int
    more: bool


_CONVERSATION, _ME, _SEQ, _VERSION, _FIRST = (
    bindparam(name, type_=BigInteger) for name in ("conversation_id", "me", "seq", "version", "first_seq")
)
_MESSAGES = stored.MESSAGES.where(models.Message.conversation_id == _CONVERSATION)
_VISIBLE = _MESSAGES.where(~models.Message.held | (models.Message.author_id == _ME))
BEFORE = Question(Message, _VISIBLE.where(models.Message.seq < _SEQ).order_by(models.Message.seq.desc()).limit(LENGTH))
SINCE = Question(Message, _VISIBLE.where(models.Message.seq > _SEQ).order_by(models.Message.seq).limit(LENGTH + 1))
_CHANGED = (
    _VISIBLE.where(models.Message.version > _VERSION, models.Message.seq >= _FIRST)
    .order_by(models.Message.version)
    .limit(CHANGES)
    .subquery()
)
_NEWEST = _MESSAGES.order_by(models.Message.seq.desc()).limit(LENGTH).subquery()
_HEAD = select(models.Conversation.version.label("conversation_version"), models.Conversation.last_seq).where(
    models.Conversation.id == _CONVERSATION
)
AFTER = Question(
    outer_join(Head, Message),
    _HEAD.add_columns(*_CHANGED.c).outerjoin(_CHANGED, true()).order_by(_CHANGED.c.version),
)
LATEST = Question(
    outer_join(Head, Message),
    _HEAD.add_columns(*_NEWEST.c).outerjoin(_NEWEST, true()).order_by(_NEWEST.c.seq),
)


class Latests:
    """The latest messages of conversations: from Redis when they are there, else from PostgreSQL and into Redis."""

    def __init__(self, reader: Reader, cached: Cache) -> None:
        self._reader = reader
        self._cached = cached
        self._loading: dict[int, asyncio.Task[Latest]] = {}

    async def of(self, conversation: Conversation, version: int) -> Latest:
        """The latest messages, not older than `version`."""
        if not conversation.id:
            return Latest(0, 0, [])
        found = await self._cached.read(conversation.id, version)
        while found is None or found.version < version:
            found = await asyncio.shield(self._loading_of(conversation, version))
        return found

    def _loading_of(self, conversation: Conversation, version: int) -> asyncio.Task[Latest]:
        """However many readers want a cold list, one of them asks PostgreSQL.

        Its answer is kept for a moment, for readers who missed it in Redis before and get here only now.
        """
        loading = self._loading.get(conversation.id)
        if loading is None or (loading.done() and (loading.exception() or loading.result().version < version)):
            loading = self._loading[conversation.id] = asyncio.create_task(self._load(conversation))
            loading.add_done_callback(lambda loaded: self._forget_soon(conversation.id, loaded))
        return loading

    def _forget_soon(self, conversation_id: int, loaded: asyncio.Task[Latest]) -> None:
        def forget() -> None:
            if self._loading.get(conversation_id) is loaded:
                del self._loading[conversation_id]

        asyncio.get_running_loop().call_later(LINGER, forget)

    async def _load(self, conversation: Conversation) -> Latest:
        latest = await load_latest(self._reader, conversation)
        await self._cached.fill(conversation.id, latest)
        return latest


async def load_latest(reader: Reader, conversation: Conversation) -> Latest:
    """The latest messages and their version, read in one statement and so at one moment."""
    rows = await reader.fetch(LATEST, conversation_id=conversation.id)
    [head, _], *_ = rows
    newest = (
        fragments.listed(message, fragments.message(conversation, message))
        for _, message in reversed(rows)
        if message is not None
    )
    return Latest(head.conversation_version, head.last_seq, fragments.fitting(newest)[::-1])


async def newest(reader: Reader, conversation: Conversation, me: int, latest: Latest) -> Page:
    """The latest messages as user `me` may see them."""
    html = fragments.seen_by(me, latest.html)
    if html is None:
        return (await before(reader, conversation, me, latest.last_seq + 1))._replace(last_seq=None)
    return Page(html, latest.first_seq, None)


async def before(reader: Reader, conversation: Conversation, me: int, seq: int) -> Page:
    """The messages before `seq` that user `me` may see, at most a page of them."""
    rows = await reader.fetch(BEFORE, conversation_id=conversation.id, me=me, seq=seq)
    html = fragments.fitting(fragments.message(conversation, message) for message in rows)
    return Page(Markup("\n").join(html[::-1]), rows[len(html) - 1].seq if rows else 1, seq - 1)


async def since(reader: Reader, conversation: Conversation, me: int, seq: int) -> Page:
    """The messages after `seq` that user `me` may see, at most a page of them."""
    rows = await reader.fetch(SINCE, conversation_id=conversation.id, me=me, seq=seq)
    html = fragments.fitting(fragments.message(conversation, message) for message in rows[:LENGTH])
    is_end = len(html) == len(rows)
    return Page(Markup("\n").join(html), seq + 1, None if is_end else rows[len(html) - 1].seq)


async def around(reader: Reader, conversation: Conversation, me: int, seq: int, newest_seq: int) -> Page:
    """A page of messages with `seq` in its middle; `newest_seq` is the conversation's last one."""
    page = await before(reader, conversation, me, min(seq + LENGTH // 2, newest_seq + 1))
    return page._replace(last_seq=None) if page.last_seq == newest_seq else page


async def after(reader: Reader, conversation: Conversation, me: int, version: int, first_seq: int = 1) -> Changes:
    """What has changed since `version`, for a page of user `me` that shows the messages from `first_seq` on.

    Changes of older messages are left out: a page would put them above a gap.
    """
    if not conversation.id:
        return Changes([], version, more=False)
    rows = await reader.fetch(AFTER, conversation_id=conversation.id, me=me, version=version, first_seq=first_seq)
    [head, _], *_ = rows
    changed = [message for _, message in rows if message is not None]
    html = fragments.fitting(fragments.message(conversation, message) for message in changed)
    more = len(html) == CHANGES or len(html) < len(changed)
    reached = changed[len(html) - 1].version if more else max(version, head.conversation_version)
    return Changes(html, reached, more)
