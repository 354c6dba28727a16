"""Search: messages by their words, among those that the reader may see.

The index (migrations/versions/0009) has the words of each message, and its readers: of a held message only its author.
The worker adds messages to it after they were sent, so it costs the writer nothing. It finds words by their beginning;
what comes from it is compared with the whole text, which also finds phrases. The latest messages of the newest chats
are looked through without it, which also finds parts within words.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from psycopg.errors import QueryCanceled
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from web.accounts import users
from web.chat.refusals import Cause, Refused
from web.data.models import User
from web.data.postgres import DATABASE_AWAY, Database
from web.words import Sentence

LENGTH = 200
"""Characters of a search at most."""
PAGE = 20
FURTHEST = 1000
"""Hits that can be looked at; whoever wants more asks for something rarer."""
CHATS, LATEST = 50, 100
"""In how many chats, and in how many messages of each, parts within words are looked for."""
LATEST_OF_ONE = 5000
TIMEOUT = "2s"
AROUND = 60
"""Characters before the first hit that an excerpt shows; after it three times as many."""
TERM = re.compile(r'(from|before|after|has):(\S+)|"([^"]+)"?|(\S+)', re.IGNORECASE)
LINK = r"(https?|ftp)://|\w\.([a-z]{2}|com|org|net|info|edu|gov|app|dev)\M"
WILD = re.compile(r"[ %_\\]")
PAUSE, PIECE = 2.0, 500
"""Seconds between two looks for messages that are not in the index yet, and how many are added at a time."""
REST = 4
"""How many times as long as a piece took to wait before the next one: what people send goes first."""

WHERE = """
    AND message.removed_at IS NULL
    -- Quicker than the next one, which tells whether it is so.
    AND lower(message.body) LIKE ALL (ARRAY(SELECT lower(pattern) FROM unnest(CAST(:patterns AS text[])) AS pattern))
    AND NOT EXISTS (SELECT FROM unnest(CAST(:words AS text[])) AS word
        WHERE strpos(translate(lower(message.body), E'\\n\\t', '  '), lower(word)) = 0)
    AND (CAST(:author AS bigint) IS NULL OR message.author_id = CAST(:author AS bigint))
    AND message.created_at >= CAST(:since AS timestamptz) AND message.created_at < CAST(:until AS timestamptz)
    AND (NOT CAST(:links AS boolean) OR message.body ~* :link)
"""
COLUMNS = """
    SELECT message.conversation_id, message.seq, author.shown, message.body, message.created_at,
        others.name, others.title, others.hue, message.rank
    FROM found AS message
    JOIN LATERAL (
        SELECT coalesce(display_name, username) AS shown FROM users WHERE id = message.author_id
    ) AS author ON true
    JOIN LATERAL (
        SELECT string_agg(username, ', ' ORDER BY id) AS name,
            string_agg(coalesce(display_name, username), ', ' ORDER BY id) AS title, min(users.hue) AS hue
        FROM participants JOIN users ON users.id = user_id
        WHERE conversation_id = message.conversation_id AND user_id <> :me
    ) AS others ON true
"""
FIRST = "ORDER BY rank DESC, message.created_at DESC, message.conversation_id, message.seq DESC LIMIT :limit"
RANKS = {
    "newest": "0",
    # Whole words first.
    "best": """(SELECT count(*) FROM unnest(CAST(:words AS text[])) AS word
        WHERE message.body ~* ('\\m' || regexp_replace(word, '(\\W)', '\\\\\\1', 'g') || '\\M'))""",
}
INDEXED = f"""
    WITH found AS MATERIALIZED (
        SELECT message.*, {{rank}} AS rank FROM messages AS message
        WHERE message_search(message.body, message.readers) @@ (
            SELECT message_query(CAST(:words AS text[]), CAST(:me AS bigint))
        )
        AND message.readers IS NOT NULL
        AND (CAST(:conversation AS bigint) IS NULL OR message.conversation_id = CAST(:conversation AS bigint))
        {WHERE} {FIRST}
    ) {COLUMNS}
"""  # noqa: S608 - no value is put into it
NEWEST_CHATS = """
    SELECT conversation_id, active_at,
        row_number() OVER (ORDER BY active_at DESC NULLS LAST, conversation_id) AS place
    FROM participants WHERE user_id = :me
    AND (CAST(:conversation AS bigint) IS NULL OR conversation_id = CAST(:conversation AS bigint))
    ORDER BY place
"""
LATEST_ONES = f"""
    WITH chats AS ({NEWEST_CHATS} LIMIT CAST(:chats AS bigint)), found AS MATERIALIZED (
        SELECT message.*, {{rank}} AS rank
        FROM chats JOIN LATERAL (
            SELECT conversation_id, seq, author_id, body, created_at, removed_at, held FROM messages
            WHERE messages.conversation_id = chats.conversation_id ORDER BY seq DESC LIMIT :depth
        ) AS message ON true
        WHERE (NOT message.held OR message.author_id = :me) {WHERE} {FIRST}
    ) {COLUMNS}
"""  # noqa: S608 - no value is put into it
# The time of the newest message that is not among the latest ones; NULL if there is none. How new those of a chat are
# that was taken out of the list is not known, so they may be newer than any.
HORIZON = f"""
    SELECT max(CASE WHEN place <= CAST(:chats AS bigint) THEN message.created_at
        ELSE coalesce(active_at, '9999-01-01') END)
    FROM ({NEWEST_CHATS} LIMIT CAST(:chats AS bigint) + 1) AS chats JOIN conversations ON id = conversation_id
    LEFT JOIN messages AS message ON message.conversation_id = id AND message.seq = last_seq - :depth
"""  # noqa: S608 - no value is put into it
INDEX = """
    UPDATE messages SET readers = ARRAY(SELECT 'user ' || user_id FROM participants
        WHERE participants.conversation_id = messages.conversation_id AND (NOT held OR user_id = author_id))
    WHERE readers IS NULL AND (conversation_id, seq) IN (
        SELECT conversation_id, seq FROM messages WHERE readers IS NULL LIMIT :piece FOR UPDATE SKIP LOCKED
    )
"""


class Hit(NamedTuple):
    """A message that was found, in the chat that its reader calls `name`."""

    conversation_id: int
    seq: int
    author: str
    body: str
    created_at: datetime
    name: str
    title: str
    hue: int | None
    rank: int
    """How many of the words are whole words in it, if that counts."""


class Query(NamedTuple):
    """What is looked for: messages with all of the words, each a part of the text, ignoring case."""

    words: Sequence[str]
    author: str
    since: datetime
    until: datetime
    links: bool


def parse(q: str) -> Query:
    """Words, "a phrase", from:bob, before:2026-01-31, after:2026-01-31, has:link. Raises Refused."""
    if len(q) > LENGTH:
        raise Refused(Cause.INVALID, Sentence("A search has at most %(most)s characters.", most=LENGTH))
    words: list[str] = []
    given: dict[str, str] = {}
    for operator, value, phrase, word in TERM.findall(q.replace("\0", " ")):
        if operator:
            given[operator.lower()] = value
        else:
            words.append(" ".join(phrase.split()) or word)
    if given.get("has", "link").lower() not in ("link", "links"):
        raise Refused(Cause.INVALID, Sentence("After has: comes the word link."))
    since = _day(given["after"]) + timedelta(days=1) if "after" in given else datetime(1970, 1, 1, tzinfo=UTC)
    until = _day(given["before"]) if "before" in given else datetime(9999, 1, 1, tzinfo=UTC)
    return Query(words, given.get("from", ""), since, until, "has" in given)


def _day(value: str) -> datetime:
    try:
        day = date.fromisoformat(value)
        return datetime(min(max(day.year, 1970), 9998), day.month, day.day, tzinfo=UTC)
    except ValueError:
        raise Refused(Cause.INVALID, Sentence("Write a date like this: 2026-01-31.")) from None


async def find(
    db: AsyncSession, me: int, query: Query, conversation_id: int | None, order: str, offset: int
) -> list[Hit]:
    """A page of hits, and one more if there are more; `conversation_id` for those of one chat. Raises Refused."""
    author = None
    if query.author:
        name = users.fold(query.author.removeprefix("@"))
        author = await db.scalar(select(User.id).where(users.folded_name() == name))
        if author is None:
            raise Refused(Cause.INVALID, Sentence("Nobody here is called %(name)s.", name=query.author[:40]))
    values = {**query._asdict(), "words": list(query.words), "author": author, "me": me, "link": LINK}
    first = min(offset, FURTHEST)
    depth = LATEST if conversation_id is None else LATEST_OF_ONE
    values |= {"conversation": conversation_id, "chats": CHATS, "depth": depth, "limit": first + PAGE + 1}
    # In LIKE, _ is any character: that at the end of a line too, and those that mean something to LIKE.
    values["patterns"] = [f"%{WILD.sub('_', word)}%" for word in query.words]
    # The index is worth it for any word, and nothing is read twice.
    await db.execute(
        text(
            f"SET LOCAL enable_seqscan = off; SET LOCAL enable_memoize = off; SET LOCAL statement_timeout = '{TIMEOUT}'"
        )
    )
    try:
        hits = await _hits(db, LATEST_ONES, order, values)
        # A word that is in many messages is in enough of the latest ones, which is quicker than the index.
        is_enough = order == "newest" and len(hits) > first + PAGE
        if is_enough:
            horizon = await db.scalar(text(HORIZON), values)
            is_enough = horizon is None or hits[-1].created_at > horizon
        if not is_enough:
            # One message may have changed between the two statements.
            found = {(hit.conversation_id, hit.seq): hit for hit in [*hits, *await _hits(db, INDEXED, order, values)]}
            hits = sorted(found.values(), key=_place)
    except DBAPIError as error:
        if isinstance(error.orig, QueryCanceled):
            raise Refused(Cause.INVALID, Sentence("Too much fits this. Add another word.")) from None
        raise
    return hits[first : first + PAGE + 1]


async def _hits(db: AsyncSession, statement: str, order: str, values: dict[str, Any]) -> list[Hit]:
    rows = await db.execute(text(statement.format(rank=RANKS[order])), values)
    return sorted([Hit(*row) for row in rows], key=_place)


def _place(hit: Hit) -> tuple[int, timedelta, int, int]:
    return -hit.rank, datetime.max.replace(tzinfo=UTC) - hit.created_at, hit.conversation_id, -hit.seq


def excerpt(body: str, words: Sequence[str]) -> list[tuple[str, bool]]:
    """The text around the first hit, in pieces: each with whether it is a hit."""
    body = " ".join(body.split())
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) or r"(?!)"
    first = re.search(pattern, body, re.IGNORECASE)
    start = max(0, first.start() - AROUND) if first else 0
    shown = ("…" if start else "") + body[start : start + 4 * AROUND] + ("…" if len(body) > start + 4 * AROUND else "")
    pieces = re.split(f"({pattern})", shown, flags=re.IGNORECASE)
    return [(piece, place % 2 == 1) for place, piece in enumerate(pieces) if piece]


async def index_some(database: Database) -> int:
    """Add the next piece to the index. Returns how many messages it was. Raises DATABASE_AWAY's errors."""
    async with database.begin() as db:
        added = await db.execute(text(INDEX), {"piece": PIECE})
    return int(added.rowcount)  # type: ignore[attr-defined]


async def index_forever(database: Database) -> None:
    while True:
        began, added = time.monotonic(), 0
        with suppress(*DATABASE_AWAY):  # the sweep says so
            added = await index_some(database)
        await asyncio.sleep(PAUSE if added < PIECE else REST * (time.monotonic() - began))
