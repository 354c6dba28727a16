"""What participants keep, each for themselves: pinned and muted chats, starred messages, and messages to forward."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, case, column, func, literal_column, null, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from web.chat import drafts
from web.chat.refusals import Cause, Refused
from web.data.models import Message, Participant, User
from web.words import Sentence

PINS = 20
"""Chats that one user pins at most."""
STARS = 200
"""Messages of one chat that one user stars at most."""
LISTED = 100
"""Starred messages that their page shows."""
ALWAYS = datetime(9999, 1, 1, tzinfo=UTC)
TIMES: dict[str, Any] = {
    "hour": func.now() + timedelta(hours=1),
    "day": func.now() + timedelta(days=1),
    "always": ALWAYS,
}
"""How long a chat can be muted."""


class Starred(NamedTuple):
    """A message that somebody starred, and the chat that it is in, as they see it."""

    name: str
    title: str
    hue: int | None
    author: str
    seq: int
    body: str
    created_at: datetime


def _mine(me: int, conversation_id: int) -> ColumnElement[bool]:
    return (Participant.user_id == me) & (Participant.conversation_id == conversation_id)


async def _change(db: AsyncSession, me: int, conversation_id: int, **values: Any) -> None:
    entry = {**values, "fallen": Participant.fallen + 1}  # shown in the list, so the entry is a newer one
    await db.execute(update(Participant).where(_mine(me, conversation_id)).values(entry))


async def pin(db: AsyncSession, me: int, conversation_id: int, *, pinned: bool) -> None:
    """Pin the chat above the others, or no longer. Raises Refused if too many are. The caller commits."""
    others = select(func.count()).where(
        Participant.user_id == me, Participant.pinned_at.is_not(None), Participant.conversation_id != conversation_id
    )
    if pinned and (await db.scalar(others) or 0) >= PINS:
        raise Refused(Cause.INVALID, Sentence("You can pin %(most)s chats at most.", most=PINS))
    await _change(db, me, conversation_id, pinned_at=func.now() if pinned else null())


async def mute(db: AsyncSession, me: int, conversation_id: int, time: str) -> None:
    """Mute the chat for one of TIMES, or no longer if it is none of them. The caller commits."""
    await _change(db, me, conversation_id, muted_until=TIMES.get(time, null()))


async def star(db: AsyncSession, me: int, conversation_id: int, seq: int) -> None:
    """Star a message, or take the star away if it has one. Raises Refused. The caller commits."""
    message = await db.get(Message, (conversation_id, seq))
    if message is None or message.removed_at or (message.held and message.author_id != me):
        raise Refused(Cause.NOTHING, Sentence("There is no such message in this chat."))
    starred = (await db.scalar(select(Participant.starred).where(_mine(me, conversation_id)).with_for_update())) or []
    after = [other for other in starred if other != seq]
    if len(after) == len(starred):
        if len(after) >= STARS:
            raise Refused(Cause.INVALID, Sentence("You can star %(most)s messages of a chat at most.", most=STARS))
        after.append(seq)
    await _change(db, me, conversation_id, starred=after or null())


async def starred(db: AsyncSession, me: int) -> Sequence[Starred]:
    """The messages that user `me` starred, the newest first."""
    star = func.unnest(Participant.starred).table_valued(column("star", BigInteger), name="star").render_derived()
    mine = select(Participant.conversation_id, star.c.star).join(star, true())
    stars = mine.where(Participant.user_id == me, Participant.starred.is_not(None)).subquery()
    other = (
        select(
            func.string_agg(User.username, literal_column("', '")).label("name"),
            func.string_agg(User.shown, literal_column("', '")).label("title"),
            func.min(User.hue).label("hue"),
        )
        .join(Participant, Participant.user_id == User.id)
        .where(Participant.conversation_id == stars.c.conversation_id, User.id != me)
        .lateral("other")
    )
    author = select(User.shown).where(User.id == Message.author_id).scalar_subquery()
    query = (
        select(other.c.name, other.c.title, other.c.hue, author, Message.seq, Message.body, Message.created_at)
        .select_from(stars)
        .join(Message, (Message.conversation_id == stars.c.conversation_id) & (Message.seq == stars.c.star))
        .join(other, true())
        .where(Message.removed_at.is_(None))
        .order_by(Message.created_at.desc(), Message.seq.desc())
        .limit(LISTED)
    )
    return [Starred(*row) for row in await db.execute(query)]


async def forward(db: AsyncSession, me: int, body: str, conversation_id: int) -> None:
    """Put a message, as a quote, above what the user has typed in another chat. The caller commits."""
    quoted = "".join(f"> {line}\n" for line in body.splitlines())
    text = quoted if len(quoted) < drafts.LENGTH else body
    draft = case((Participant.draft == "", text), else_=func.concat(text, "\n", Participant.draft))
    values = {"draft": func.left(draft, drafts.LENGTH), "draft_edition": Participant.draft_edition + 1}
    await db.execute(update(Participant).where(_mine(me, conversation_id)).values(values))
