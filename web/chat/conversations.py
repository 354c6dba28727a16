"""Conversations: who they join, and how far each participant has read."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, Text, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from web.accounts import users
from web.data.models import Conversation, Message, Participant, User
from web.data.postgres import Sessions
from web.data.questions import Question, Reader


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


_CONVERSATION, _VERSION = (bindparam(name, type_=BigInteger) for name in ("conversation_id", "version"))
# A message's version is never below its seq, so the index leads to the place, however old the page is.
_SHOWN = (
    select(func.max(Message.seq))
    .where(Message.conversation_id == _CONVERSATION, Message.seq <= _VERSION, Message.version <= _VERSION)
    .scalar_subquery()
)
READ = Question(
    update(Participant)
    .where(
        Participant.conversation_id == _CONVERSATION,
        Participant.user_id == bindparam("me", type_=BigInteger),
        Participant.read_seq < _SHOWN,
    )
    .values(read_seq=_SHOWN)
    .returning(Participant.read_seq)
)

_ME = aliased(User)
WITH = Question(
    select(_ME.id, _ME.username, User.id, User.username, Conversation.id)
    .join(User, (users.folded_name() == bindparam("name", type_=Text)) & (User.id != _ME.id))
    .outerjoin(
        Conversation,
        (Conversation.low_user_id == func.least(_ME.id, User.id))
        & (Conversation.high_user_id == func.greatest(_ME.id, User.id)),
    )
    .where(_ME.id == bindparam("me", type_=BigInteger))
)


class Pairs:
    """Finds the conversation of two people, and remembers it: membership is asked once a process, not once a message.

    Nothing here goes stale, since a username and a conversation's participants never change.
    """

    REMEMBERED = 50_000

    def __init__(self, reader: Reader, db: Sessions) -> None:
        self._reader = reader
        self._db = db
        self._known: dict[tuple[int, str], Pair] = {}

    async def find(self, me: int, username: str) -> Pair | None:
        """The conversation of user `me` with `username`, begun where there was none.

        None where nobody has that name, or where it is one's own.
        """
        known = self._known.get((me, username.lower()))
        if known is not None or not users.USERNAME.fullmatch(username):
            return known
        rows = await self._reader.ask(WITH, me=me, name=username.lower())
        if not rows:
            return None
        my_id, my_name, other_id, other_name, found = rows[0]
        low, high = sorted((Person(my_id, my_name), Person(other_id, other_name)), key=lambda person: person.id)
        pair = Pair(found or await self._begin(low.id, high.id), low, high)
        self._remember(pair)
        return pair

    def _remember(self, pair: Pair) -> None:
        if len(self._known) >= self.REMEMBERED:
            self._known.clear()
        for one, other in ((pair.low, pair.high), (pair.high, pair.low)):
            self._known[one.id, other.username.lower()] = pair

    async def _begin(self, low: int, high: int) -> int:
        """The id of the conversation of these two."""
        async with self._db() as db:
            new = insert(Conversation).values(low_user_id=low, high_user_id=high).on_conflict_do_nothing()
            made = await db.scalar(new.returning(Conversation.id))
            if made is None:  # the other one opened the chat at the same moment
                query = select(Conversation.id)
                query = query.where(Conversation.low_user_id == low, Conversation.high_user_id == high)
                return (await db.scalars(query)).one()
            people = [{"conversation_id": made, "user_id": user} for user in (low, high)]
            await db.execute(insert(Participant).values(people))
            await db.commit()
            return int(made)


async def where(reader: Reader, me: int, conversation_id: int) -> tuple[int, int]:
    """The conversation's version, and how many messages this user has not read."""
    [(version, unread)] = await reader.ask(WHERE, me=me, conversation_id=conversation_id)
    return version, unread


async def mark_read(reader: Reader, me: int, conversation_id: int, version: int) -> bool:
    """Everything that the page at `version` showed is read. Whether that was news."""
    return bool(await reader.ask(READ, me=me, conversation_id=conversation_id, version=version))
