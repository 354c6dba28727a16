"""The audit compares the messages that pages show and got acknowledged with PostgreSQL, one by one."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from tests.faults.figures import Figure, exactly, measured
from tests.faults.page import Page, Shown
from tests.faults.parts import Parts

SHOWN = """
    SELECT it.seq, it.version, author.username, it.nonce, it.body,
        CASE WHEN it.reply_to IS NULL THEN '' WHEN quoted.removed_at IS NULL THEN quoted.seq || ' ' || quoted.body
            ELSE quoted.seq || ' gone' END,
        coalesce((SELECT string_agg(reacted, ' ' ORDER BY reacted COLLATE "C") FROM (
            SELECT pair ->> 0 || ' ' || username AS reacted FROM jsonb_array_elements(it.reactions) AS pair
            JOIN users ON users.id = (pair ->> 1)::bigint
        ) AS reactions), '')
    FROM messages AS it JOIN users AS author ON author.id = it.author_id
    LEFT JOIN messages AS quoted ON quoted.conversation_id = it.conversation_id AND quoted.seq = it.reply_to
    WHERE it.conversation_id = %s ORDER BY it.seq
"""
"""The columns of `Shown` for the messages of a conversation."""
ROWS = SHOWN.replace(
    "= %s",
    """= (SELECT conversation_id FROM participants p JOIN participants q USING (conversation_id)
    JOIN users o ON o.id = q.user_id WHERE p.user_id = %s AND o.username = %s)""",
)
ENTRY = """
    SELECT other.read_seq, last_seq - me.read_seq FROM conversations
    JOIN participants AS me ON me.conversation_id = id JOIN participants AS other ON other.conversation_id = id
    JOIN users ON users.id = other.user_id WHERE me.user_id = %s AND username = %s
"""


def rows(parts: Parts, page: Page) -> list[Shown]:
    """The messages of a page's conversation in PostgreSQL."""
    return [Shown(*row) for row in parts.query(ROWS, page.me.id, page.to)]


async def settled(parts: Parts, pages: Sequence[Page], patience: float = 60) -> float:
    """Wait until every outbox is empty and every list complete. Returns the seconds it took."""
    started = time.monotonic()
    while time.monotonic() - started < patience:
        if not any(page.outbox for page in pages) and not await asyncio.to_thread(_differing, parts, pages):
            break
        await asyncio.sleep(0.25)
    return time.monotonic() - started


def figures(parts: Parts, pages: Sequence[Page]) -> list[Figure]:
    """The figures of pages that together wrote everything in their conversations."""
    stored: dict[tuple[int, str], Shown] = {}
    bodies: Counter[str] = Counter()
    gaps = 0
    for page in _one_per_conversation(pages):
        held = rows(parts, page)
        stored.update(((hash(frozenset((page.me.username, page.to))), row.nonce), row) for row in held)
        bodies.update(row.body for row in held if row.body)
        gaps += [row.seq for row in held] != list(range(1, len(held) + 1))
    keys = {(hash(frozenset((page.me.username, page.to))), nonce) for page in pages for nonce in page.acknowledged}
    return [
        measured("acknowledged messages", len(keys)),
        exactly("acknowledged messages missing", len(keys - stored.keys()), 0),
        exactly("messages doubled", sum(count - 1 for count in bodies.values()), 0),
        exactly("stored messages not acknowledged", len(stored.keys() - keys), 0),
        exactly("messages never acknowledged", sum(len(page.outbox) for page in pages), 0),
        exactly("messages refused for good", sum(len(page.refused) for page in pages), 0),
        exactly("conversations with a gap", gaps, 0),
        exactly("lists, quotes, reactions or counts that differ from PostgreSQL's", len(_differing(parts, pages)), 0),
    ]


def _differing(parts: Parts, pages: Sequence[Page]) -> list[Page]:
    """Pages whose messages, from the first one they were loaded with, or whose chat list are not PostgreSQL's."""

    def differs(page: Page) -> bool:
        if page.list != [row for row in rows(parts, page) if row.seq >= page.first_seq]:
            return True
        return page.is_open and page.list != [] and page.entry[1:] != parts.query(ENTRY, page.me.id, page.to)[0]

    return [page for page in pages if differs(page)]


def _one_per_conversation(pages: Iterable[Page]) -> Iterable[Page]:
    return {frozenset((page.me.username, page.to)): page for page in pages}.values()
