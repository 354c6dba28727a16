"""What happens to messages of a conversation: each change raises its version, under the row's lock.

An append goes through the writer, which makes one statement of many. What changes a message that was sent (`edits`,
`reactions`) is a transaction of its own. Either way `announce` passes it on to open pages, to the chat lists and to the
cached list.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import attributes

from web.chat import cache, fragments, quotes, stored
from web.chat.conversations import Conversation, Conversations, Message
from web.chat.list_updates import ListUpdates
from web.chat.presence_updates import PresenceUpdates
from web.chat.refusals import Cause, Refused
from web.data import models
from web.data.postgres import Database
from web.live.hub import Hub
from web.live.relay import Relay
from web.notifications import mending
from web.words import Sentence


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

    @property
    def is_new(self) -> bool:
        """False if everything was so already."""
        return self.version > self.before

    @property
    def swap(self) -> str:
        return fragments.message_swap(self.conversation, "".join([rendered.html for rendered in self.messages]))


Alter = Callable[[AsyncSession, Conversation, int, models.Message], Awaitable[None]]
"""Changes a row of `messages` for a participant, under the conversation's lock. Raises Refused if they may not."""


class Announcer:
    """One per process: tells everybody of what PostgreSQL has committed."""

    def __init__(
        self, hub: Hub, list_updates: ListUpdates, presence_updates: PresenceUpdates, relay: Relay[cache.Change]
    ) -> None:
        self._hub = hub
        self._list_updates = list_updates
        self._presence_updates = presence_updates
        self._relay = relay

    def announce(self, change: Change) -> None:
        """Tell the pages of all participants, and the cached list. A page gets one frame, however many messages."""
        conversation, before, version, last_seq, messages = change
        self.announce_to_pages(conversation, messages)
        items = [(rendered.message.seq, fragments.listed(*rendered)) for rendered in messages]
        self._relay.update_list(cache.Change(conversation.id, before, version, last_seq, items))
        if not before:
            self._presence_updates.introduce(conversation.id, conversation.user_ids)

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


class Changes:
    """One per process: changes messages that were sent, and announces that."""

    def __init__(self, conversations: Conversations, db: Database, announcer: Announcer) -> None:
        self._conversations = conversations
        self._db = db
        self._announcer = announcer

    async def make(self, me: int, to: str, seq: int, alter: Alter) -> Change:
        """Alter a message of the chat of user `me` with the user named `to`. Raises Refused."""
        conversation = await self._conversations.find(me, to)
        if conversation is None:
            raise Refused(Cause.NOBODY, Sentence("Nobody here has that name, so there is no chat with them."))
        async with self._db.begin() as db:
            made = await change(db, conversation, me, seq, alter)
        if made.is_new:
            self._announcer.announce(made)
        return made


async def change(db: AsyncSession, conversation: Conversation, me: int, seq: int, alter: Alter) -> Change:
    """Alter a message, and show it so where it is quoted. Commit, then announce. Raises Refused."""
    # The lock is taken by a statement of its own, so that the next one sees what was committed meanwhile.
    here = models.Conversation.id == conversation.id
    head = select(models.Conversation.version, models.Conversation.last_seq).where(here)
    before, last_seq = (await db.execute(head.with_for_update(key_share=True))).one_or_none() or (0, 0)
    it = await db.get(models.Message, (conversation.id, seq))
    if it is None or (it.held and it.author_id != me):
        raise Refused(Cause.NOTHING, Sentence("There is no such message in this chat."))
    if it.removed_at:
        raise Refused(Cause.REMOVED, Sentence("This message was removed."))
    await alter(db, conversation, me, it)
    changed = [it] if db.is_modified(it) else []
    if changed and attributes.get_history(it, "body").has_changes():
        changed += await quotes.of(db, it)
        await mending.mark(db, conversation.id, seq)
    for version, message in enumerate(changed, before + 1):
        message.version = version
    await db.execute(update(models.Conversation).where(here).values(version=before + len(changed)))
    messages = await stored.read(db, conversation.id, [message.seq for message in changed or [it]])
    rendered = [Rendered(message, fragments.message(conversation, message)) for message in messages]
    return Change(conversation, before, before + len(changed), last_seq, rendered)


def check_blocks(conversation: Conversation, me: int, it: models.Message) -> None:
    """Raises Refused if what this participant changes would get past a block."""
    if conversation.is_blocker(me):
        raise Refused(
            Cause.BLOCKED, Sentence("You blocked %(name)s. Unblock them to do that.", name=conversation.name(me))
        )
    if conversation.is_blocked(me) and not it.held:
        raise Refused(Cause.INVALID, Sentence("This message can no longer be changed."))
