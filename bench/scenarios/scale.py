"""The same pages on small and large data: up to 100,000 users, 1,000 chats and 1,000,000 messages."""

import asyncio
from collections import defaultdict
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

import psycopg

from bench import load, people, plans, servers
from bench.run import Run

FEW = 120
"""Users of the smallest site: enough to fill a page of each list, since a fuller page takes longer on any data."""
USERS = 100_000
CHATS = 1_000
MESSAGES = 1_000_000
ROUNDS = 12

MUCH = "page with much behind it against little"

CONVERSATIONS = """
    WITH made AS (
        INSERT INTO conversations (low_user_id, high_user_id, version, last_seq)
        SELECT least(me.id, other.id), greatest(me.id, other.id), 1, 1
        FROM users AS me JOIN users AS other ON other.username = ANY(%(others)s) WHERE me.username = 'person0'
        ON CONFLICT DO NOTHING RETURNING id, low_user_id, high_user_id
    ), written AS (
        INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at)
        SELECT id, 1, 1, low_user_id, 'first', 'The first line of this chat.', now() FROM made
    )
    INSERT INTO participants (conversation_id, user_id, active_at, read_seq)
    SELECT id, unnest(ARRAY[low_user_id, high_user_id]), now() - id * interval '1 second', 1 FROM made
"""
SESSIONS = """
    INSERT INTO sessions (id, user_id, expires_at)
    SELECT sha256(username::bytea), id, now() + interval '1 day' FROM users ON CONFLICT DO NOTHING
"""
LENGTHEN = """
    WITH chat AS (
        SELECT conversations.* FROM conversations
        JOIN users AS low ON low.id = low_user_id JOIN users AS high ON high.id = high_user_id
        WHERE low.username IN ('person0', %(other)s) AND high.username IN ('person0', %(other)s)
    ), written AS (
        INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at)
        SELECT id, n, n, low_user_id, 'n' || n, 'Line ' || n || ' of a long chat, as long as lines are.', now()
        FROM chat, generate_series(last_seq + 1, %(messages)s) AS n
    ), seen AS (
        UPDATE participants SET read_seq = %(messages)s FROM chat WHERE conversation_id = chat.id
    )
    UPDATE conversations SET version = %(messages)s, last_seq = %(messages)s FROM chat WHERE conversations.id = chat.id
"""


class Visit(NamedTuple):
    """A site to load: its port, a cookie, and its pages by title, as `_pages` gives them."""

    port: int
    cookie: str
    pages: dict[str, tuple[str, str, int]]


def scale(run: Run) -> None:
    few, some, many = (FEW, FEW - 1, 200), (USERS // 10, CHATS, MESSAGES // 10), (USERS, CHATS, MESSAGES)
    sizes = [few, some] if run.is_quick else [few, some, many]
    with ExitStack() as stack:
        visits: list[Visit] = []
        for size in sizes:
            run.say(f"{size[0]:,} users, {size[1]:,} chats, a chat of {size[2]:,} messages")
            base = stack.enter_context(servers.base())
            with base.postgres() as postgres:
                _fill(postgres, *size)
                cookie = people.cookies(postgres, base.settings, [people.name(0)])[0]
            visits.append(Visit(stack.enter_context(servers.knock(base)).port, cookie, _pages(*size)))
        run.say("loading their pages in turn")
        found = _times(stack.enter_context(load.running("bench.browsers")), visits)
        run.say("explaining the statements")
        _plans(run, base)
    for page in found[0]:
        times = [each[page] for each in found]
        details = {"messages": [size[2] for size in sizes], "milliseconds": times}
        run.record(f"{MUCH}: {page}", "Knock", times[-1] / times[0], "×", **details)


def _fill(postgres: psycopg.Connection, users: int, chats: int, messages: int) -> None:
    people.make(postgres, users)
    postgres.execute(SESSIONS)
    postgres.execute(CONVERSATIONS, {"others": [people.name(number) for number in range(1, chats + 1)]})
    postgres.execute(LENGTHEN, {"other": people.name(1), "messages": messages})
    postgres.execute("VACUUM ANALYZE")
    postgres.execute("CHECKPOINT")


def _pages(users: int, _chats: int, messages: int) -> dict[str, tuple[str, str, int]]:
    """By title: the path, and a string with how often the page must contain it. Nobody has a chat with themselves."""
    few = f"erson{users // 20}" if users > FEW else "erson5"
    return {
        "chat list": ("/", '<li id="chat-', 50),
        "chat": ("/chat/person1", '<li id="message-', 50),
        "older messages": (f"/chat/person1/messages?before={messages // 2}", '<li id="message-', 50),
        "what changed": (f"/chat/person1/messages?after={messages - 50}", '<li id="message-', 50),
        "all users": ("/users", 'href="/chat/', 49),
        "all users, further on": ("/users?after=person2", 'href="/chat/', 50),
        "search, eleven found": (f"/users?q={few}", 'href="/chat/', 11),
        "search, everybody found": ("/users?q=erson", 'href="/chat/', 49),
    }


def _times(browsers: load.Load, visits: list[Visit]) -> list[dict[str, float]]:
    """Median milliseconds of each page of each visit. One client loads them in turn, so a busy moment affects all."""
    times: list[dict[str, list[float]]] = [defaultdict(list) for _ in visits]
    for _ in range(ROUNDS):
        for title in visits[0].pages:
            for visit, taken in zip(visits, times, strict=True):
                path, expected, count = visit.pages[title]
                request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {visit.cookie}\r\n\r\n"
                job = {"requests": [request], "expected": expected, "count": count, "clients": 1, "seconds": 0.05}
                taken[title].append(browsers.do("fetch", host="127.0.0.1", port=visit.port, **job)["p50"])
    return [{title: median(each) for title, each in taken.items()} for taken in times]


def _plans(run: Run, base: servers.Base) -> None:
    found = asyncio.run(plans.explained(base.settings))
    scanned = [title for title, plan in found.items() if plans.scans(plan)]
    run.record("statements explained", "Knock", len(found), "statements", plans=found)
    run.record("of these, without an index", "Knock", len(scanned), "statements", scanned=scanned)
