"""What happens to messages later, while web processes die and connections are cut."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from secrets import token_hex

from tests.faults import audit
from tests.faults.figures import Figure, exactly, measured
from tests.faults.page import Page
from tests.faults.parts import Parts, children, kill
from tests.faults.scenario import chats
from web import settings
from web.chat import reactions, search
from web.data import postgres


@dataclass
class Author:
    """A page, and what its person did to their own messages; the site has done everything in here."""

    page: Page
    edited: dict[str, str] = field(default_factory=dict)
    """The newest text by nonce."""
    unsure: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The texts that got no answer after that one, by nonce; "" for a removal."""
    removed: set[str] = field(default_factory=set)

    async def act(self) -> None:
        """Write, answer, edit, remove or react, whatever is possible now."""
        page, what = self.page, random.choice(("write", "answer", "edit", "edit", "remove", "react", "react"))
        at_hand = [shown for shown in page.list if shown.body]
        mine = [shown for shown in at_hand if shown.author == page.me.username and shown.nonce not in self.removed]
        if what == "write" or not mine:
            await page.write(token_hex(8))
        elif what == "answer":
            await page.write(token_hex(8), str(random.choice(at_hand).seq))
        elif what == "react":
            await page.change(random.choice(at_hand).seq, "react", emoji=random.choice(reactions.QUICK))
        elif what == "edit":
            shown, body = random.choice(mine), token_hex(8)
            self.unsure[shown.nonce].append(body)
            if await page.change(shown.seq, "edit", body=body):
                self.edited[shown.nonce] = body
                self.unsure[shown.nonce].clear()
        else:
            shown = random.choice(mine)
            self.unsure[shown.nonce].append("")
            if await page.change(shown.seq, "remove"):
                self.removed.add(shown.nonce)


@dataclass(frozen=True)
class Changed:
    """{acts:,} sends, answers, edits, removals and reactions by {people} people, web process killed {kills} times"""

    people: int = 50
    acts: int = 6000
    kills: int = 6
    rate: float = 80.0

    async def run(self, parts: Parts) -> list[Figure]:
        with parts.site() as site:
            async with chats(parts, [site.url], self.people) as pages:
                authors = [Author(page) for page in pages]
                acting = [asyncio.create_task(self._act(author)) for author in authors]
                cutting = [asyncio.create_task(self._cut(page)) for page in pages]
                for _ in range(self.kills):
                    await asyncio.sleep(self.acts / self.rate / (self.kills + 1))
                    kill(random.choice(children(site)))
                await asyncio.gather(*acting, *cutting)
                seconds = await audit.settled(parts, pages)
                return [
                    *audit.figures(parts, pages),
                    *await self._altered(parts, authors),
                    measured("all settled after the last of them in", seconds, " s"),
                ]

    async def _act(self, author: Author) -> None:
        """Each person does one thing after the other, so what they did last is what counts."""
        for _ in range(self.acts // self.people):
            began = asyncio.get_running_loop().time()
            await author.act()
            left = self.people / self.rate - (asyncio.get_running_loop().time() - began)
            await asyncio.sleep(random.uniform(0, 2) * max(0.0, left))

    async def _cut(self, page: Page) -> None:
        for _ in range(2):
            await asyncio.sleep(random.uniform(0, self.acts / self.rate / 2))
            page.cut()
            await asyncio.sleep(1)
            page.mend()

    async def _altered(self, parts: Parts, authors: Sequence[Author]) -> list[Figure]:
        lost = kept = changed = 0
        for author in authors:
            stored = {row.nonce: row.body for row in audit.rows(parts, author.page)}
            changed += len(author.edited) + len(author.removed)
            kept += sum(stored[nonce] != "" for nonce in author.removed)
            for nonce, body in author.edited.items():
                may_be = {body, *author.unsure[nonce]} if nonce not in author.removed else {""}
                lost += stored[nonce] not in may_be
        return [
            measured("messages edited or removed", changed),
            exactly("edits lost", lost, 0),
            exactly("messages that were removed and still say something", kept, 0),
            exactly("earlier texts of removed messages", parts.query(LEFT)[0][0], 0),
            exactly("searches that differ from PostgreSQL's messages", await _wrongly_found(parts, authors), 0),
        ]


LEFT = "SELECT count(*) FROM earlier_texts JOIN messages USING (conversation_id, seq) WHERE removed_at IS NOT NULL"


async def _wrongly_found(parts: Parts, authors: Sequence[Author]) -> int:
    """Each person searches for the beginnings of some texts that they can or could read."""
    wrong = 0
    async with postgres.connect(settings.read({**parts.environ, "PORT": "8000"})) as engine:
        for author in authors:
            rows = audit.rows(parts, author.page)
            texts = [row.body for row in rows] + list(author.edited.values())
            for text in random.sample(texts, min(10, len(texts))):
                word = text[:5] or "nothing"
                async with postgres.database(engine)() as db:
                    hits = await search.find(db, author.page.me.id, search.parse(word), None, "newest", 0)
                wrong += {hit.seq for hit in hits} != {row.seq for row in rows if word in row.body}
    return wrong
