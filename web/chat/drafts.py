"""Drafts: what a participant has typed and not sent, so that their other devices have it too."""

from typing import NamedTuple

from sqlalchemy import BigInteger, Text, bindparam, update

from web.data.models import Participant
from web.data.questions import Question, Reader

LENGTH = 4000
"""Characters at most. A longer text cannot be sent either, and stays where it was typed."""


class Saved(NamedTuple):
    draft: str


SAVE = Question(
    Saved,
    update(Participant)
    .where(
        Participant.conversation_id == bindparam("conversation_id", type_=BigInteger),
        Participant.user_id == bindparam("me", type_=BigInteger),
        Participant.draft == bindparam("base", type_=Text),
    )
    .values(draft=bindparam("body", type_=Text), draft_edition=Participant.draft_edition + 1)
    .returning(Participant.draft),
)


async def save(reader: Reader, me: int, conversation_id: int, body: str, base: str) -> bool:
    """Keep `body` in place of `base`. If the draft is another one by now, it stays, and the answer is False."""
    if len(body) > LENGTH or "\0" in body + base:
        return False
    found = await reader.fetch(SAVE, me=me, conversation_id=conversation_id, body=body.replace("\r\n", "\n"), base=base)
    return bool(found)
