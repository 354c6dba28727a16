"""First contacts: a new account begins only a few chats an hour, so that nobody makes one to write to everybody."""

from datetime import timedelta
from typing import NamedTuple

from limits import parse
from sqlalchemy import BigInteger, bindparam, func, select

from web.accounts.limiter import Limiter
from web.chat.refusals import Cause, Refused
from web.data.models import User
from web.data.questions import Question, Reader
from web.words import Counted

NEW = timedelta(days=1)
"""How long an account is new."""
RATE = parse("10 per hour")


class Age(NamedTuple):
    is_new: bool


AGE = Question(
    Age,
    select((User.created_at > func.now() - NEW).label("is_new")).where(
        User.id == bindparam("me", type_=BigInteger),
    ),
)


class Contacts:
    """One per process; the count is everybody's."""

    def __init__(self, reader: Reader, limiter: Limiter) -> None:
        self._reader = reader
        self._limiter = limiter

    async def count(self, me: int) -> None:
        """Count a conversation that user `me` begins. Raises Refused if it is one too many."""
        [age] = await self._reader.fetch(AGE, me=me)
        if age.is_new and (wait := await self._limiter.wait((RATE, "contact", str(me)))):
            too_many = Counted(
                "A new account can begin %(most)s chats an hour. Try again in %(count)s minute.",
                "A new account can begin %(most)s chats an hour. Try again in %(count)s minutes.",
                -(-wait // 60),
                most=RATE.amount,
            )
            raise Refused(Cause.CONTACTS, too_many)
