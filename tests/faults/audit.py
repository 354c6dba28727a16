"""The audit: what the pages show, and what they were told is kept, against what PostgreSQL holds, one by one."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from tests.faults.figures import Figure, exactly, told
from tests.faults.page import Page, Shown
from tests.faults.parts import Parts

ROWS = """
    SELECT seq, version, username, nonce, body FROM messages JOIN users ON users.id = author_id
    WHERE conversation_id = (SELECT conversation_id FROM participants p JOIN participants q USING (conversation_id)
    JOIN users o ON o.id = q.user_id WHERE p.user_id = %s AND o.username = %s) ORDER BY seq
"""


def rows(parts: Parts, page: Page) -> list[Shown]:
    """The conversation of a page as PostgreSQL holds it."""
    return [Shown(*row) for row in parts.query(ROWS, page.me.id, page.to)]


async def settled(parts: Parts, pages: Sequence[Page], patience: float = 60) -> float:
    """Wait until nothing is on its way any more: every outbox empty, every list complete. Returns the seconds."""
    started = time.monotonic()
    while time.monotonic() - started < patience:
        if not any(page.outbox for page in pages) and not await asyncio.to_thread(_differing, parts, pages):
            break
        await asyncio.sleep(0.25)
    return time.monotonic() - started


def figures(parts: Parts, pages: Sequence[Page]) -> list[Figure]:
    """Of pages that between them wrote everything in their conversations."""
    kept: dict[tuple[int, str], Shown] = {}
    bodies: Counter[str] = Counter()
    gaps = 0
    for page in _one_a_conversation(pages):
        held = rows(parts, page)
        kept.update(((hash(frozenset((page.me.username, page.to))), row.nonce), row) for row in held)
        bodies.update(row.body for row in held)
        gaps += [row.seq for row in held] != list(range(1, len(held) + 1))
    keys = {(hash(frozenset((page.me.username, page.to))), nonce) for page in pages for nonce in page.acknowledged}
    return [
        told("acknowledged messages", len(keys)),
        exactly("acknowledged messages missing", len(keys - kept.keys()), 0),
        exactly("messages doubled", sum(count - 1 for count in bodies.values()), 0),
        exactly("kept messages that nobody acknowledged", len(kept.keys() - keys), 0),
        exactly("messages never acknowledged", sum(len(page.outbox) for page in pages), 0),
        exactly("messages refused for good", sum(len(page.refused) for page in pages), 0),
        exactly("conversations with a gap", gaps, 0),
        exactly("lists that differ from PostgreSQL's", len(_differing(parts, pages)), 0),
    ]


def _differing(parts: Parts, pages: Sequence[Page]) -> list[Page]:
    """Pages whose list is not PostgreSQL's, from the first message that they were loaded with on, in its order."""
    return [page for page in pages if page.list != [row for row in rows(parts, page) if row.seq >= page.first_seq]]


def _one_a_conversation(pages: Iterable[Page]) -> Iterable[Page]:
    return {frozenset((page.me.username, page.to)): page for page in pages}.values()
