"""What happens to messages of a conversation: each change raises its version by one, under the row's lock.

An append goes through the writer, which makes one statement of many. An edit or a removal is a statement of its own.
Either way `announce` passes it on to open pages, to the chat lists and to the cached list.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from web.chat import cache, fragments
from web.chat.conversations import Conversation, Message
from web.chat.list_updates import ListUpdates
from web.data import models
from web.live.hub import Hub
from web.live.relay import Relay


class Rendered(NamedTuple):
    """A message and its HTML."""

    message: Message
    html: Markup


class Change(NamedTuple):
    """Messages that one transaction appended to a conversation, or changed in it, in the order of `seq`."""

    conversation: Conversation
    before: int
    """The conversation's version before."""
    version: int
    last_seq: int
    messages: Sequence[Rendered]


class Announcer:
    """One per process: tells everybody of what PostgreSQL has committed."""

    def __init__(self, hub: Hub, list_updates: ListUpdates, relay: Relay[cache.Change]) -> None:
        self._hub = hub
        self._list_updates = list_updates
        self._relay = relay

    def announce(self, change: Change) -> None:
        """Tell the pages of all participants, and the cached list. A page gets one frame, however many messages."""
        conversation, before, version, last_seq, messages = change
        self.announce_to_pages(conversation, messages)
        items = [(rendered.message.seq, fragments.listed(*rendered)) for rendered in messages]
        self._relay.update_list(cache.Change(conversation.id, before, version, last_seq, items))

    def announce_to_pages(self, conversation: Conversation, messages: Sequence[Rendered]) -> None:
        """Tell only the pages, and of a held message only those of its author."""
        held = [rendered for rendered in messages if rendered.message.held]
        if held:
            messages = [rendered for rendered in messages if not rendered.message.held]
            for author in {rendered.message.author_id for rendered in held}:
                theirs = [rendered for rendered in held if rendered.message.author_id == author]
                self._publish(conversation, [author], theirs)
        if messages:
            self._publish(conversation, conversation.user_ids, messages)

    def _publish(self, conversation: Conversation, users: Sequence[int], messages: Iterable[Rendered]) -> None:
        html = "".join([rendered.html for rendered in messages])
        self._hub.publish(users, fragments.message_swap(conversation, html))
        self._list_updates.changed(conversation.id, users)


async def edit(db: AsyncSession, conversation: Conversation, author_id: int, seq: int, body: str) -> Change | None:
    """Give a message another body; None if it is not the author's, or was removed. Commit, then announce."""
    return await _change(db, conversation, author_id, seq, body=body, edited_at=func.now())


async def remove(db: AsyncSession, conversation: Conversation, author_id: int, seq: int) -> Change | None:
    """Take away a message's body for good; None if it is not the author's, or was removed. Commit, then announce."""
    return await _change(db, conversation, author_id, seq, body="", removed_at=func.now())


async def _change(
    db: AsyncSession, conversation: Conversation, author_id: int, seq: int, **values: object
) -> Change | None:
    # The lock is taken by a statement of its own, so that the next one sees what was committed meanwhile.
    here = models.Conversation.id == conversation.id
    head = select(models.Conversation.version, models.Conversation.last_seq).where(here)
    before, last_seq = (await db.execute(head.with_for_update(key_share=True))).one()
    table = models.Message
    changed = (
        update(table)
        .where(
            table.conversation_id == conversation.id,
            table.seq == seq,
            table.author_id == author_id,
            table.removed_at.is_(None),
        )
        .values(version=before + 1, **values)
        .returning(table)
    )
    row = await db.scalar(changed)
    if row is None:
        return None
    await db.execute(update(models.Conversation).where(here).values(version=before + 1))
    message = Message(
        seq=row.seq,
        version=row.version,
        author_id=row.author_id,
        nonce=row.nonce,
        body=row.body,
        created_at=row.created_at,
        edited_at=row.edited_at,
        removed_at=row.removed_at,
        held=row.held,
    )
    rendered = Rendered(message, fragments.message(conversation, message))
    return Change(conversation, before, before + 1, last_seq, [rendered])
