"""Messages: what may be sent, the way to send it, and the lists that a page shows."""

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup
from sqlalchemy import BigInteger, bindparam, select, true

from web import metrics
from web.chat import fragments
from web.chat.cache import LENGTH, Cache, Change, Latest
from web.chat.conversations import Pair
from web.data.models import Conversation, Message
from web.data.questions import Question, Reader

if TYPE_CHECKING:
    from web.chat.list_updates import ChatLists
    from web.live.hub import Hub
    from web.live.relay import Relay

BODY_LENGTH = 4000
NONCE = re.compile(r"[\x21-\x7e]{1,64}")
LINGER = 1.0
"""Seconds for which a list that was loaded is given to others without asking again."""
CHANGES = 200
"""Messages in one page of a catch-up."""

_CONVERSATION, _SEQ, _VERSION = (bindparam(name, type_=BigInteger) for name in ("conversation_id", "seq", "version"))
_SHOWN = select(Message.seq, Message.version, Message.author_id, Message.nonce, Message.body, Message.created_at).where(
    Message.conversation_id == _CONVERSATION
)
BEFORE = Question(_SHOWN.where(Message.seq < _SEQ).order_by(Message.seq.desc()).limit(LENGTH))
AFTER = Question(_SHOWN.where(Message.version > _VERSION).order_by(Message.version).limit(CHANGES))
_NEWEST = _SHOWN.order_by(Message.seq.desc()).limit(LENGTH).subquery()
LATEST = Question(
    select(Conversation.version, Conversation.last_seq, _NEWEST)
    .outerjoin(_NEWEST, true())
    .where(Conversation.id == _CONVERSATION)
    .order_by(_NEWEST.c.seq)
)


class Refused(Exception):
    """A send that came to nothing; the text is for its author. `retry`: the same send may do better later."""

    def __init__(self, reason: str, *, retry: bool = False, cause: str = "invalid") -> None:
        super().__init__(reason)
        self.retry = retry
        metrics.REFUSED.labels(cause).inc()


class Posted(NamedTuple):
    """A message that PostgreSQL holds."""

    pair: Pair
    author_id: int
    body: str
    seq: int
    version: int
    created_at: datetime
    html: Markup
    is_new: bool
    """False where the nonce had made it this message before."""

    @property
    def swap(self) -> str:
        return fragments.message_swap(self.pair, self.html)


def check(body: str, nonce: str) -> str:
    """The body as it will be kept. Raises Refused."""
    body = body.replace("\r\n", "\n")
    if not body.strip():
        raise Refused("Write something first.")
    if len(body) > BODY_LENGTH:
        raise Refused(f"That is {len(body):,} characters; a message has at most {BODY_LENGTH:,}.")
    if "\x00" in body:
        raise Refused("The message contains a character that cannot be kept (NUL).")
    if not NONCE.fullmatch(nonce):
        raise Refused("The page sent this without a proper mark of its own (nonce). Reload the page and try again.")
    return body


def announce(hub: "Hub", chat_lists: "ChatLists", relay: "Relay", added: Sequence[Posted]) -> None:
    """Tell both participants' pages, and the cached list, what was just added to a conversation.

    `added` is in the order of `seq`, without a gap. However many there are, a page gets one frame.
    """
    first, last, pair = added[0], added[-1], added[0].pair
    after = Latest(last.version, last.seq, [posted.html for posted in added])
    hub.publish(pair.users, fragments.message_swap(pair, "".join(after.messages)))
    chat_lists.changed(pair.id, *pair.users)
    relay.append(Change(pair.id, first.version - 1, after))


def announce_again(hub: "Hub", chat_lists: "ChatLists", posted: Posted) -> None:
    """Tell both participants' pages of a message that its author sent again a while after it was kept.

    Whoever kept it then cannot have said so, to its author at least: the answer to the commit was lost, or the process.
    """
    hub.publish(posted.pair.users, posted.swap)
    chat_lists.changed(posted.pair.id, *posted.pair.users)


class Latests:
    """The latest messages of conversations: from Redis when they are there, else from PostgreSQL and into Redis."""

    def __init__(self, reader: Reader, cached: Cache) -> None:
        self._reader = reader
        self._cached = cached
        self._loading: dict[int, asyncio.Task[Latest]] = {}

    async def of(self, pair: Pair, version: int) -> Latest:
        """The latest messages, not older than `version`."""
        found = await self._cached.read(pair.id, version)
        while found is None or found.version < version:
            found = await asyncio.shield(self._loading_of(pair, version))
        return found

    def _loading_of(self, pair: Pair, version: int) -> asyncio.Task[Latest]:
        """However many want a cold list, PostgreSQL is asked by one of them.

        What it answered stays for a moment, for those who looked into Redis before and are told so only now.
        """
        loading = self._loading.get(pair.id)
        if loading is None or (loading.done() and (loading.exception() or loading.result().version < version)):
            loading = self._loading[pair.id] = asyncio.create_task(self._load(pair))
            loading.add_done_callback(lambda loaded: self._forget_soon(pair.id, loaded))
        return loading

    def _forget_soon(self, conversation_id: int, loaded: asyncio.Task[Latest]) -> None:
        def forget() -> None:
            if self._loading.get(conversation_id) is loaded:
                del self._loading[conversation_id]

        asyncio.get_running_loop().call_later(LINGER, forget)

    async def _load(self, pair: Pair) -> Latest:
        latest = await load_latest(self._reader, pair)
        await self._cached.fill(pair.id, latest)
        return latest


async def load_latest(reader: Reader, pair: Pair) -> Latest:
    """The latest messages and the version that they belong to, read in one statement, hence of one moment."""
    rows = await reader.ask(LATEST, conversation_id=pair.id)
    version, last_seq = rows[0][:2]
    return Latest(version, last_seq, [render(pair, row[2:]) for row in rows if row[2] is not None])


async def before(reader: Reader, pair: Pair, seq: int) -> list[Markup]:
    """The messages before `seq`, rendered, oldest first, at most a page of them."""
    rows = await reader.ask(BEFORE, conversation_id=pair.id, seq=seq)
    return [render(pair, row) for row in reversed(rows)]


async def after(reader: Reader, pair: Pair, version: int) -> tuple[list[Markup], int, bool]:
    """What changed since `version`: the messages, rendered; the version that they lead to; whether there is more."""
    rows = await reader.ask(AFTER, conversation_id=pair.id, version=version)
    reached = rows[-1][1] if rows else version
    return [render(pair, row) for row in rows], reached, len(rows) == CHANGES


def render(pair: Pair, row: Sequence[Any]) -> Markup:
    seq, version, author_id, nonce, body, created_at = row
    return fragments.message(pair, seq, version, author_id, nonce, body, created_at)
