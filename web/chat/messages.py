"""Sending a message: one call, with one set of checks, whatever it comes through."""

import asyncio
import re
from functools import partial

from web.accounts import deletion
from web.chat import quotes
from web.chat.contacts import Contacts
from web.chat.conversations import Conversation, Conversations
from web.chat.refusals import Cause, Refused
from web.chat.writer import Posted, Writer
from web.data.postgres import DATABASE_AWAY
from web.data.questions import Reader
from web.words import Sentence

BODY_LENGTH = 4000
NONCE = re.compile(r"[\x21-\x7e]{1,64}")


def checked(body: str) -> str:
    """The text of a message, with the line breaks of this system. Raises Refused if it cannot be one."""
    body = body.replace("\r\n", "\n")
    if not body.strip():
        raise Refused(Cause.INVALID, Sentence("Write something first."))
    if len(body) > BODY_LENGTH:
        too_long = Sentence(
            "That is %(length)s characters; a message has at most %(most)s.", length=len(body), most=BODY_LENGTH
        )
        raise Refused(Cause.INVALID, too_long)
    if "\x00" in body:
        raise Refused(Cause.INVALID, Sentence("The message contains a character that cannot be kept (NUL)."))
    return body


class Messages:
    """One per process."""

    def __init__(self, conversations: Conversations, reader: Reader, writer: Writer, contacts: Contacts | None) -> None:
        """`contacts` is None if there is no limit on whom a new account may write to."""
        self._conversations = conversations
        self._reader = reader
        self._writer = writer
        self._contacts = contacts

    async def post(self, me: int, to: str, body: str, nonce: str, reply_to: str = "") -> asyncio.Future[Posted]:
        """Take a message of user `me` to the user named `to`; the future is done once PostgreSQL has committed it.

        `reply_to` is the `seq` of the message that it answers. Raises Refused, here or in the future.
        """
        body = checked(body)
        if not NONCE.fullmatch(nonce):
            unmarked = Sentence("The page sent this without a mark of its own (nonce). Reload the page and try again.")
            raise Refused(Cause.INVALID, unmarked)
        try:
            conversation = await self._find(me, to)
            quoted = await quotes.check(self._reader, conversation, me, reply_to) if reply_to else None
        except DATABASE_AWAY:
            raise Refused(
                Cause.DATABASE, Sentence("Knock cannot reach its database at the moment."), retry=True
            ) from None
        return self._writer.write(conversation, me, body, nonce, quoted)

    async def _find(self, me: int, to: str) -> Conversation:
        """The conversation to write in, which begins with its first message."""
        conversation = await self._conversations.find(me, to)
        if conversation is None:
            raise Refused(Cause.NOBODY, Sentence("Nobody here has that name, so there is no chat with them."))
        if any(deletion.is_deleted(person.id, person.username) for person in conversation.others(me)):
            raise Refused(Cause.DELETED, Sentence("This account was deleted, so nobody would read that."))
        if conversation.is_blocker(me):
            raise Refused(
                Cause.BLOCKED, Sentence("You blocked %(name)s. Unblock them to write.", name=conversation.name(me))
            )
        if not conversation.id:
            count = partial(self._contacts.count, me) if self._contacts else None
            conversation = await self._conversations.begin(conversation, count)
        return conversation

    async def keep_up(self, posted: asyncio.Future[Posted]) -> None:
        """Wait for a message if more are waiting than one transaction takes, so that the queue does not grow."""
        if self._writer.is_behind:
            await asyncio.wait([posted])
