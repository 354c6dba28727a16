"""What happens to messages after they were sent: edits, readings, typing, presence, and pages that show all of it."""

from functools import partial
from typing import Any

from bench import load, people, servers
from bench.acts import ROUND
from bench.machine import Meter
from bench.run import Run
from bench.scenarios import pages

RATE = 100
"""Edits or readings a second."""
CHATS = 1_000
EVENTS = 300
"""Typing, readings and comings and goings a second, as many of each."""
RESTLESS = 1_300
"""People who come and go: more than can come back within the time in which they still count as online."""
LONG = 300
"""Messages of each chat: one of its people wrote them all, and the other has read none."""

FILL = """
    WITH made AS (
        INSERT INTO conversations (low_user_id, high_user_id, version, last_seq)
        SELECT least(a.id, b.id), greatest(a.id, b.id), %(messages)s, %(messages)s
        FROM generate_series(0, %(chats)s - 1) AS n
        JOIN users AS a ON a.username = 'person' || 2 * n JOIN users AS b ON b.username = 'person' || 2 * n + 1
        RETURNING *
    ), written AS (
        INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at, readers)
        SELECT made.id, n, n, author.id, 'n' || n, 'Line ' || n || ' of a chat, as long as lines are.', now(),
            ARRAY['user ' || low_user_id, 'user ' || high_user_id]
        FROM made JOIN users AS author ON author.id IN (low_user_id, high_user_id)
            AND right(author.username, 1) IN ('0', '2', '4', '6', '8')
        CROSS JOIN generate_series(1, %(messages)s) AS n
    )
    INSERT INTO participants (conversation_id, user_id, active_at, read_seq)
    SELECT made.id, users.id, now(), CASE WHEN right(username, 1) IN ('0', '2', '4', '6', '8') THEN last_seq ELSE 0 END
    FROM made JOIN users ON users.id IN (low_user_id, high_user_id)
"""
ADORN = """
    UPDATE messages SET edited_at = now(), reply_to = 1,
        reactions = (SELECT jsonb_agg(jsonb_build_array('👍', user_id)) FROM participants
            WHERE participants.conversation_id = messages.conversation_id)
    WHERE seq > %(messages)s - 50 AND seq %% 5 = 0
        AND conversation_id = (SELECT conversation_id FROM participants JOIN users ON users.id = user_id
            WHERE username = 'person2')
"""


def life(run: Run) -> None:
    with servers.base() as base, base.postgres() as postgres:
        people.make(postgres, 2 * CHATS)
        names = [people.name(number) for number in range(2 * CHATS)]
        cookies = people.cookies(postgres, base.settings, names)
        postgres.execute(FILL, {"chats": CHATS, "messages": LONG})
        postgres.execute("VACUUM ANALYZE")
        with servers.knock(base) as server, load.running("bench.acts") as acts:
            acts.do("open", host="127.0.0.1", port=server.port, cookies=cookies)
            _ways(run, acts)
            _storm(run, acts, server)
        postgres.execute(ADORN, {"messages": LONG})
        _adorned(run, base, cookies)


def _edit(number: int) -> tuple[int, str, int, str]:
    text = f'{{"action":"edit","to":"{people.name(2 * number + 1)}","seq":"{LONG}","body":"edited {ROUND} times"}}'
    return 2 * number, text, 2 * number + 1, f">edited {ROUND} times<"


def _reading(number: int, seq: str = ROUND) -> tuple[int, str, int, str]:
    text = f'{{"action":"read","to":"{people.name(2 * number)}","seq":"{seq}"}}'
    return 2 * number + 1, text, 2 * number, f'data-read="{seq}"'


def _ways(run: Run, acts: load.Load) -> None:
    seconds = 3 if run.is_quick else 10
    for what, make in (("an edit", _edit), ("a reading", _reading)):
        run.say(f"{what}, {RATE}/s")
        doing = [make(number) for number in range(RATE)]
        found = acts.do("act", acts=doing, rate=RATE, seconds=seconds)
        assert not found["missing"], f"{found['missing']} were never shown"
        for point in ("p50", "p95"):
            run.record(f"{what} until the other tab shows it, {RATE}/s, {point}", "Knock", found[point], "ms", **found)


def _storm(run: Run, acts: load.Load, server: servers.Server) -> None:
    """All three kinds in turn; who comes and goes is none of those who read and type."""
    run.say(f"typing, reading and presence, {EVENTS}/s in {CHATS:,} chats")
    doing: list[tuple[int, str, int, str]] = []
    for place in range(RESTLESS):
        turn, number = divmod(place, CHATS - RESTLESS // 2)
        typist = 2 * number
        typing = f'{{"action":"typing","to":"{people.name(typist + 1)}"}}'
        reader, reading, _, _ = _reading(number, f"{ROUND}{turn}")
        doing += [(typist, typing, 0, ""), (reader, reading, 0, ""), (2 * CHATS - RESTLESS + place, "", 0, "")]
    meter = Meter({"web": server.part})
    meter.start()
    acts.do("act", acts=doing, rate=EVENTS, seconds=10 if run.is_quick else 40, first=11)
    spent = meter.stop()
    share = 100 * spent["web"] / spent["elapsed"]
    run.record(f"a web process at {EVENTS} events/s in {CHATS:,} chats", "Knock", share, "% of a core")


def _adorned(run: Run, base: servers.Base, cookies: list[str]) -> None:
    """A page of which ten messages have quotes, reactions and edits, in turn with a plain one."""
    seconds = 2 if run.is_quick else 5
    rates: dict[str, list[float]] = {"plain": [], "adorned": []}
    with servers.knock(base, pages.PROCESSES) as server, load.running("bench.browsers") as browsers:
        for _ in range(3):
            for which, person in (("plain", 4), ("adorned", 2)):
                run.say(f"a page, {which}")
                request = pages.get(cookies[person], people.partner(person))
                measure = partial(_rate, browsers, server.port, request, seconds)
                rates[which].append(measure())
    for which, found in rates.items():
        run.record(f"chat page, {which}", "Knock", max(found), "pages/s", rates=found)
    shares = sorted(adorned / plain for plain, adorned in zip(rates["plain"], rates["adorned"], strict=True))
    run.record("chat page with quotes, reactions and edits against a plain one", "Knock", 100 * shares[1], "%")


def _rate(browsers: load.Load, port: int, request: str, seconds: float) -> float:
    job: dict[str, Any] = {"requests": [request], "expected": '<li id="message-', "count": 50}
    found = browsers.do("fetch", host="127.0.0.1", port=port, seconds=seconds, clients=pages.CLIENTS, **job)
    return float(found["rate"])
