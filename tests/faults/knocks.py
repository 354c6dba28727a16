"""Notifications, while workers, web processes, bots, the queue and Telegram fail."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from aiohttp import ClientSession, ClientTimeout

from tests import site as sites
from tests.faults.figures import Figure, at_most, exactly, measured, percentile
from tests.faults.page import LOST, Page, browser
from tests.faults.parts import Parts, Somebody, children, eventually
from tests.telegram.bot_api import Call
from tests.telegram.fixtures import WORKER

THREADS = int(WORKER[-1])
DUE_SECONDS = 60
DIE_BEFORE_ENQUEUE = """
import os, signal
from web.live.relay import Relay
enqueue = Relay.enqueue
def die(self, ids):
    if ids:
        os.kill(os.getpid(), signal.SIGKILL)
Relay.enqueue = die
"""
"""A sitecustomize module: the web process dies between a commit and the task for the worker."""

Absent = tuple[Somebody, int]
"""A user who is linked and logged out, and the id of their chat with the bot."""


@dataclass(frozen=True)
class WorkerKilled:
    """the worker killed with -9 {kills} times in {notifications:,} notifications"""

    notifications: int = 1000
    kills: int = 5
    rate: float = 50.0

    async def run(self, parts: Parts) -> list[Figure]:
        absent = await parts.absent(self.notifications)
        with parts.site() as site, parts.worker() as worker:
            async with browser() as http:
                posting = asyncio.create_task(_post_to(parts, http, site.url, absent, self.rate))
                for _ in range(self.kills):
                    await asyncio.sleep(self.notifications / self.rate / (self.kills + 1))
                    await asyncio.to_thread(worker.kill)
                    worker.start()
                await posting
                await _all_notified(parts, absent)
        return [*_arrivals(parts, absent), *_doubles(parts, absent, self.kills * THREADS)]


@dataclass(frozen=True)
class DiedBeforeEnqueue:
    """a web process killed between commit and enqueue {kills} times"""

    kills: int = 200
    processes: int = 8

    async def run(self, parts: Parts) -> list[Figure]:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "sitecustomize.py").write_text(DIE_BEFORE_ENQUEUE)
            path = f"{folder}:{sites.TOP}"
            with parts.site(WEB_PROCESSES=str(self.processes), PYTHONPATH=path) as site, parts.worker():
                async with browser() as http:
                    seen = {child.pid for child in children(site)}
                    (writer,) = await parts.people(1)
                    absent: list[Absent] = []
                    written_to: list[Absent] = []

                    async def post_on() -> None:
                        # One kill may interrupt every post here, since a process writes many at once.
                        while len(seen) < self.kills + self.processes and len(written_to) < 20 * self.kills:
                            if not absent:
                                absent.extend(await parts.absent(20))
                            written_to.append(absent.pop())
                            await _post(http, site.url, writer, written_to[-1])

                    posting = asyncio.gather(*(post_on() for _ in range(2 * self.processes)))
                    while not posting.done():
                        await asyncio.sleep(0.1)
                        seen |= {child.pid for child in children(site)}
                    await posting
                    await _all_notified(parts, written_to)
        return [
            Figure("processes killed", len(seen) - self.processes, at_least=self.kills),
            *_arrivals(parts, written_to),
            *_doubles(parts, written_to, 0),
        ]


@dataclass(frozen=True)
class QueueWiped:
    """Valkey wiped with {pending} notifications pending"""

    pending: int = 500

    async def run(self, parts: Parts) -> list[Figure]:
        absent = await parts.absent(self.pending)
        with parts.site() as site:
            async with browser() as http:
                await _post_to(parts, http, site.url, absent, rate=200)
        await eventually(lambda: parts.valkey.llen("dramatiq:telegram") or 0, patience=5)
        queued = sum(parts.valkey.llen(key) for key in parts.valkey.scan_iter("dramatiq:*", _type="list"))
        parts.valkey.flushall()
        started = time.time()
        with parts.worker():
            await _all_notified(parts, absent)
        return [measured("tasks wiped", queued), *_arrivals(parts, absent, started), *_doubles(parts, absent, 0)]


@dataclass(frozen=True)
class EnqueueCut:
    """the answer to an enqueue cut off, {times} times"""

    times: int = 20

    async def run(self, parts: Parts) -> list[Figure]:
        absent = await parts.absent(self.times)
        cut = 0
        with (
            parts.before_valkey() as (proxy, through),
            parts.site(WEB_PROCESSES="1", **through) as site,
            parts.worker(),
        ):
            async with browser() as http:
                for one in absent:
                    proxy.doom = b"enqueue"
                    await _post_to(parts, http, site.url, [one], rate=1000)
                    cut += await eventually(lambda: proxy.doom is None, patience=5)
                    await asyncio.sleep(1.2)  # after a failure nothing is enqueued for a second
                await _all_notified(parts, absent)
        (tries,) = parts.query("SELECT sum(attempts) FROM notifications")[0]
        return [
            exactly("answers cut", cut, self.times),
            exactly("tries", int(tries), self.times),
            *_arrivals(parts, absent),
            *_doubles(parts, absent, 0),
        ]


@dataclass(frozen=True)
class Refusals:
    """429 with retry_after {pause:g}; 403; chat not found; HTML 502; a hang"""

    pause: int = 7

    async def run(self, parts: Parts) -> list[Figure]:
        patient, blocked, unknown, broken, hanging = absent = await parts.absent(5)
        telegram = parts.telegram
        telegram.order({"retry_after": self.pause}, chat_id=patient[1])
        telegram.refuse(403, "Forbidden: bot was blocked by the user", chat_id=blocked[1], times=0)
        telegram.refuse(400, "Bad Request: chat not found", chat_id=unknown[1], times=0)
        telegram.order({"html": 502}, chat_id=broken[1], times=0)
        telegram.order({"hang": 60}, chat_id=hanging[1])
        with parts.site() as site, parts.worker():
            async with browser() as http:
                (writer,) = await parts.people(1)
                for _ in range(3):
                    for one in absent:
                        await _post(http, site.url, writer, one)
                    await asyncio.sleep(0.5)
                # The pauses between tries grow to minutes, so end each at once.
                while _states(parts, broken) & {"pending", "sending"}:
                    await asyncio.sleep(0.5)
                    parts.query(
                        "UPDATE notifications SET due_at = now() WHERE user_id = %s AND state = 'sending'"
                        " AND problem IS NOT NULL RETURNING id",
                        broken[0].id,
                    )
                given_up = await _given_up_after(parts, hanging)
                await _all_notified(parts, [patient, hanging])
                shown = [await _settings(http, site.url, one[0]) for one in (blocked, unknown)]
        calls = {one[1]: telegram.called(chat_id=one[1]) for one in absent}
        first, *later = calls[patient[1]]
        unlinked = parts.query(
            "SELECT count(*) FROM users WHERE id = ANY(%s) AND telegram_chat_id IS NULL", [blocked[0].id, unknown[0].id]
        )
        return [
            Figure("429: silence towards that chat", min(call.at for call in later) - first.at, " s", self.pause),
            exactly("429: messages that arrived", _shown_messages(parts, patient), 3),
            exactly("403: calls", len(calls[blocked[1]]), 1),
            exactly("chat not found: calls", len(calls[unknown[1]]), 1),
            exactly("both unlinked", unlinked[0][0], 2),
            exactly("both shown on the site", sum("Telegram says" in page for page in shown), 2),
            at_most("HTML 502: tries", len(calls[broken[1]]), 8),
            at_most("a hang: given up after", given_up, 10, " s"),
            exactly("a hang: messages that arrived", _shown_messages(parts, hanging), 3),
        ]


@dataclass(frozen=True)
class ChangedMinds:
    """{each} users each who come online, read, or unlink before the actor runs"""

    each: int = 10

    async def run(self, parts: Parts) -> list[Figure]:
        absent = await parts.absent(3 * self.each)
        online, readers, unlinked = absent[::3], absent[1::3], absent[2::3]
        with parts.site() as site:
            async with browser() as http:
                writers = await _post_to(parts, http, site.url, absent, rate=200)
                premise = parts.query("SELECT count(*) FROM notifications WHERE state = 'pending'")[0][0]
                for person, _ in online:
                    parts.change(person, token=1)
                for person, _ in readers:
                    page = Page(http, person, writers[person.id].username, site.url)
                    await page.load()
                for person, _ in unlinked:
                    headers = {"Cookie": person.cookie}
                    async with http.post(f"{site.url}/settings/telegram/unlink", headers=headers) as answer:
                        assert answer.status == 200, answer.status
            with parts.worker():
                await eventually(lambda: not _open_rows(parts))
        cancelled = parts.query("SELECT count(*) FROM notifications WHERE state = 'cancelled'")[0][0]
        return [
            exactly("notifications that waited", premise, len(absent)),
            exactly("cancelled", cancelled, premise),
            exactly("calls", len(parts.telegram.called()), 0),
        ]


@dataclass(frozen=True)
class BotKilled:
    """two bots, killed {kills} times in the middle of {updates} link updates"""

    updates: int = 200
    kills: int = 4
    rate: float = 20.0

    async def run(self, parts: Parts) -> list[Figure]:
        people = await parts.people(self.updates)
        codes = await parts.link_codes(people)
        query = "SELECT id, telegram_chat_id FROM users WHERE id = ANY(%s) AND telegram_chat_id IS NOT NULL"
        ids = [person.id for person in people]
        with parts.bot() as one, parts.bot() as other:
            writing = asyncio.create_task(self._write(parts, people, codes))
            for number in range(self.kills):
                await asyncio.sleep(self.updates / self.rate / (self.kills + 1))
                bot = (one, other)[number % 2]
                await asyncio.to_thread(bot.kill)
                bot.start()
            await writing
            await eventually(lambda: len(parts.query(query, ids)) == len(ids), patience=60)
            await asyncio.sleep(2)  # for answers that are sent twice
            linked = dict(parts.query(query, ids))
        answers = [call for call in parts.telegram.called("sendMessage") if call.chat_id in _chats(people)]
        again = len(answers) - len({call.chat_id for call in answers})
        return [
            exactly("linked", sum(linked.get(person.id) == _chat(person) for person in people), len(people)),
            exactly("updates handled twice", again, 0),
            measured("answers in words", len(answers)),
        ]

    async def _write(self, parts: Parts, people: Sequence[Somebody], codes: dict[int, str]) -> None:
        for person in people:
            parts.telegram.write(_chat(person), f"/start {codes[person.id]}", person.username)
            await asyncio.sleep(1 / self.rate)


def _chat(person: Somebody) -> int:
    return 2 * 10**9 + person.id


def _chats(people: Sequence[Somebody]) -> set[int]:
    return {_chat(person) for person in people}


async def _post_to(
    parts: Parts, http: ClientSession, url: str, absent: Sequence[Absent], rate: float
) -> dict[int, Somebody]:
    """Send one message to each of them, from a few writers in turn. Returns the writers by reader's id."""
    writers = await parts.people(min(10, len(absent)))
    loop = asyncio.get_running_loop()
    started = loop.time()
    posting = []
    for number, one in enumerate(absent):
        await asyncio.sleep(max(0.0, started + number / rate - loop.time()))
        posting.append(asyncio.create_task(_post(http, url, writers[number % len(writers)], one)))
    await asyncio.gather(*posting)
    return {person.id: writers[number % len(writers)] for number, (person, _) in enumerate(absent)}


async def _post(http: ClientSession, url: str, writer: Somebody, to: Absent) -> None:
    """Post until it is acknowledged, like a page, but with shorter pauses."""
    path, form = f"{url}/chat/{to[0].username}/messages", {"body": token_hex(4), "nonce": token_hex(8)}
    headers = {"Cookie": writer.cookie, "HX-Request": "true"}
    while True:
        try:
            async with http.post(path, data=form, headers=headers, timeout=ClientTimeout(10)) as answer:
                if answer.status == 200:
                    return
        except LOST:
            pass
        await asyncio.sleep(0.2)


async def _settings(http: ClientSession, url: str, person: Somebody) -> str:
    async with http.get(f"{url}/settings", headers={"Cookie": person.cookie}) as answer:
        return await answer.text()


async def _all_notified(parts: Parts, absent: Sequence[Absent]) -> None:
    """Wait until each chat has a card and no notification is left to send."""
    chats = {chat_id for _, chat_id in absent}
    await eventually(lambda: chats <= {call.chat_id for call in _accepted(parts)}, patience=90, pause=0.2)
    await eventually(lambda: not _open_rows(parts), patience=60, pause=0.2)


def _accepted(parts: Parts) -> list[Call]:
    return [call for call in parts.telegram.called("sendMessage") if call.status == 200]


def _open_rows(parts: Parts) -> int:
    return int(parts.query("SELECT count(*) FROM notifications WHERE state IN ('pending', 'sending')")[0][0])


def _states(parts: Parts, one: Absent) -> set[str]:
    return {row[0] for row in parts.query("SELECT state FROM notifications WHERE user_id = %s", one[0].id)}


def _arrivals(parts: Parts, absent: Sequence[Absent], since: float | None = None) -> list[Figure]:
    """How soon each notification arrived, after its message or after `since` (seconds since 1970)."""
    first: dict[int | None, float] = {}
    for call in _accepted(parts):
        first.setdefault(call.chat_id, call.at)
    written = dict(
        parts.query(
            "SELECT user_id, extract(epoch FROM min(messages.created_at))::float8 FROM notifications"
            " JOIN messages USING (conversation_id) GROUP BY user_id"
        )
    )
    waits = [first[chat_id] - (since or written[person.id]) for person, chat_id in absent if chat_id in first]
    return [
        exactly("notifications that arrived", len(waits), len(absent)),
        measured("wait, p50", percentile(waits, 50), " s"),
        at_most("wait, longest", max(waits, default=DUE_SECONDS), DUE_SECONDS, " s"),
    ]


def _doubles(parts: Parts, absent: Sequence[Absent], bound: int) -> Sequence[Figure]:
    chats = {chat_id for _, chat_id in absent}
    sent = [call for call in _accepted(parts) if call.chat_id in chats]
    return [at_most("sent twice", len(sent) - len({call.chat_id for call in sent}), bound)]


async def _given_up_after(parts: Parts, one: Absent) -> float:
    """Seconds from the first call to that chat until the worker recorded that it failed."""
    query = "SELECT count(*) FROM notifications WHERE user_id = %s AND problem IS NOT NULL"
    await eventually(lambda: parts.query(query, one[0].id)[0][0], patience=20, pause=0.02)
    return time.time() - parts.telegram.called(chat_id=one[1])[0].at


def _shown_messages(parts: Parts, one: Absent) -> int:
    """How many of the messages to them are on cards that Telegram has shown."""
    bodies = [
        row[0]
        for row in parts.query(
            "SELECT body FROM messages JOIN participants USING (conversation_id) WHERE user_id = %s", one[0].id
        )
    ]
    text = " ".join(
        call.parameters.get("text", "") for call in parts.telegram.called(chat_id=one[1]) if call.status == 200
    )
    return sum(body in text for body in bodies)
