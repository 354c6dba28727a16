"""Reactions: emoji that participants put to a message. They make nothing unread, and nobody is notified of them."""

import emoji as emojis
from sqlalchemy.ext.asyncio import AsyncSession

from web.chat import changes
from web.chat.conversations import Conversation
from web.chat.refusals import Cause, Refused
from web.data.models import Message
from web.words import Sentence

QUICK = ("👍", "❤️", "😂", "😮", "😢", "🙏")
"""Those that the tools of a message offer at once."""
KINDS = 20
"""Different emoji on one message at most."""


async def react(_db: AsyncSession, conversation: Conversation, me: int, it: Message, emoji: str) -> None:
    """Put an emoji to a message, or take it back if it is there."""
    changes.check_blocks(conversation, me, it)
    if not emojis.is_emoji(emoji):
        raise Refused(Cause.INVALID, Sentence("A reaction is one emoji."))
    reaction, there = (emoji, me), [(emoji, user) for emoji, user in it.reactions or ()]
    kinds = {emoji for emoji, _ in there}
    if emoji not in kinds and len(kinds) >= KINDS:
        raise Refused(Cause.INVALID, Sentence("A message has at most %(most)s different reactions.", most=KINDS))
    after = [other for other in there if other != reaction]
    it.reactions = (after if len(after) < len(there) else [*there, reaction]) or None
