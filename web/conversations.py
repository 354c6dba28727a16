"""Conversations: who they join, and how far each participant has read."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from web import accounts
from web.db import Sessions
from web.models import Conversation, Message, Participant, User
from web.reader import Question, Reader


@dataclass(frozen=True, slots=True)
class Person:
    """What never changes of a user."""

    id: int
    username: str


@dataclass(frozen=True, slots=True)
class Pair:
    """The two participants of a conversation, which stay the same for ever; `low` registered first."""

    id: int
    low: Person
    high: Person

    @property
    def users(self) -> tuple[int, int]:
        return self.low.id, self.high.id

    def other(self, user_id: int) -> Person:
        return self.high if user_id == self.low.id else self.low

    def person(self, user_id: int) -> Person:
        return self.low if user_id == self.low.id else self.high

    def side(self, user_id: int) -> int:
        """0 or 1: which of the two this is, for the page's style, since a message is rendered once for both."""
        return int(user_id == self.high.id)


WHERE = Question(
    select(Conversation.version, Conversation.last_seq - Participant.read_seq)
    .join(Participant, Participant.conversation_id == Conversation.id)
    .where(
        Conversation.id == bindparam("conversation_id", type_=BigInteger),
        Participant.user_id == bindparam("me", type_=BigInteger),
    )
)


class Pairs:
    """Finds the conversation of two people, and remembers it: membership is asked once a process, not once a message.

    Nothing here goes stale, since a username and a conversation's participants never change.
    """

    REMEMBERED = 50_000

    def __init__(self, db: Sessions) -> None:
        self._db = db
        self._known: dict[tuple[int, str], Pair] = {}

    async def find(self, me: int, username: str) -> Pair | None:
        """The conversation of user `me` with `username`, begun where there was none.

        None where nobody has that name, or where it is one's own.
        """
        key = (me, username.lower())
        pair = self._known.get(key)
        if pair is None:
            async with self._db() as db:
                pair = await _find_or_begin(db, me, username)
                await db.commit()
            if pair is not None:
                if len(self._known) >= self.REMEMBERED:
                    self._known.clear()
                self._known[key] = pair
        return pair


async def _find_or_begin(db: AsyncSession, me: int, username: str) -> Pair | None:
    if not accounts.USERNAME.fullmatch(username):
        return None
    query = select(User.id, User.username).where(accounts.is_named(username) | (User.id == me))
    people = sorted((Person(*row) for row in await db.execute(query)), key=lambda person: person.id)
    if len(people) != 2:
        return None
    low, high = people
    return Pair(await _conversation_id(db, low.id, high.id), low, high)


async def _conversation_id(db: AsyncSession, low: int, high: int) -> int:
    query = select(Conversation.id).where(Conversation.low_user_id == low, Conversation.high_user_id == high)
    found = await db.scalar(query)
    if found is not None:
        return found
    new = insert(Conversation).values(low_user_id=low, high_user_id=high).on_conflict_do_nothing()
    made = await db.scalar(new.returning(Conversation.id))
    if made is None:  # the other one opened the chat at the same moment
        return (await db.scalars(query)).one()
    await db.execute(insert(Participant).values([{"conversation_id": made, "user_id": user} for user in (low, high)]))
    return int(made)


async def where(reader: Reader, me: int, conversation_id: int) -> tuple[int, int]:
    """The conversation's version, and how many messages this user has not read."""
    [(version, unread)] = await reader.ask(WHERE, me=me, conversation_id=conversation_id)
    return version, unread


async def mark_read(db: AsyncSession, me: int, conversation_id: int, version: int) -> bool:
    """Everything that the page at `version` showed is read. Whether that was news. The caller commits."""
    # A message's version is never below its seq, so the index leads to the place, however old the page is.
    shown = (
        select(func.max(Message.seq))
        .where(Message.conversation_id == conversation_id, Message.seq <= version, Message.version <= version)
        .scalar_subquery()
    )
    statement = (
        update(Participant)
        .where(Participant.conversation_id == conversation_id, Participant.user_id == me, Participant.read_seq < shown)
        .values(read_seq=shown)
        .returning(Participant.read_seq)
    )
    return (await db.scalar(statement)) is not None
