"""Search: messages by their words, among those that one may see."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from bs4 import BeautifulSoup

from tests import site as sites
from tests.doors.test_blocks import block
from tests.site import Page, Person
from web import settings
from web.chat import search
from web.data import postgres


def found(person: Person, q: str, **more: str) -> list[str]:
    """The addresses of the hits, in their order."""
    page = Page(person.http.get("/search", params={"q": q, **more}))
    assert page.status == 200, page.errors
    return [str(link["href"]) for link in page.html.select(".hits a")]


def seqs(person: Person, q: str, **more: str) -> list[int]:
    return sorted(int(address.partition("around=")[2]) for address in found(person, q, **more))


def index(environ: dict[str, str]) -> None:
    """What the worker does within seconds."""

    async def all_of_them() -> None:
        async with postgres.connect(settings.read({**environ, "PORT": "8000"})) as engine:
            while await search.index_some(postgres.database(engine)):
                pass

    asyncio.run(all_of_them())


TEXTS = (
    "Dinner on Friday at eight?",
    "I bring the tickets, see https://example.com/tickets",
    "Кошки спят, а собаки нет",
    "我喜欢晚餐和电影",
    "It's 100% o'clock\nand the\nfriday dinner's \\off",
)


@pytest.fixture
def chat(alice: Person, bob: Person) -> None:
    for place, body in enumerate(TEXTS):
        (alice if place % 2 == 0 else bob).post("bob" if place % 2 == 0 else "alice", body)


HITS: list[tuple[str, list[int]]] = [
    ("dinner", [1, 5]),
    ("DINNER friday", [1, 5]),
    ("din", [1, 5]),
    ("cket", [2]),  # within a word
    ('"dinner on"', [1]),
    ('"on dinner"', []),
    ('"dinner on', [1]),
    ('"the friday"', [5]),
    ("кошк", [3]),
    ("СОБАКИ", [3]),
    ("晚餐", [4]),
    ("餐", [4]),
    ("电喜", []),
    ("from:bob dinner", []),
    ("from:Bob tickets", [2]),
    ("from:alice", [1, 3, 5]),
    ("has:link", [2]),
    ("has:link dinner", []),
    ("before:2020-01-01 dinner", []),
    ("after:2020-01-01 dinner", [1, 5]),
    ("example.com", [2]),
    ("100%", [5]),
    ("o'clock", [5]),
    ("\\off", [5]),
    ("d.nner", []),
    ("(dinner|tickets)", []),
    ("' OR 1=1; --", []),
    ("dinner & !friday:*", []),
    ("%", [5]),
    ("_", []),
    ("zzz", []),
]


@contextmanager
def in_this_process(environ: dict[str, str], person: Person) -> Iterator[Person]:
    """The same person, in the same session, at a site that a test can patch."""
    with sites.in_this_process(environ) as site:
        same = Person(person.username, site)
        same.http.cookies.update(person.cookies)
        yield same


@pytest.mark.parametrize(("q", "hits"), HITS)
def test_messages_are_found_by_their_words(alice: Person, bob: Person, chat: None, q: str, hits: list[int]) -> None:
    assert seqs(alice, q) == hits
    assert seqs(bob, q, order="best") == hits
    assert seqs(alice, q, **{"in": "bob"}) == hits


def test_the_index_finds_what_is_not_among_the_latest(
    environ: dict[str, str], alice: Person, bob: Person, chat: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LATEST", 0)
    monkeypatch.setattr(search, "LATEST_OF_ONE", 0)
    index(environ)
    with in_this_process(environ, alice) as her:
        for q, hits in HITS:
            if q != "cket":
                assert seqs(her, q) == seqs(her, q, order="best") == seqs(her, q, **{"in": "bob"}) == hits, q


def test_common_words_are_found_without_the_index_only_if_no_newer_hit_is_missed(
    environ: dict[str, str], alice: Person, bob: Person, charlie: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(30):
        (bob if n % 2 else charlie).post("alice", f"number {n}")
    for n in range(30, 60):
        bob.post("alice", f"number {n}")
    monkeypatch.setattr(search, "LATEST", 15)
    index(environ)
    with in_this_process(environ, alice) as her:
        pages = [found(her, "number", **{"from": str(start)}) for start in (0, 20, 40)]
    hits = [address for page in pages for address in page]
    assert len(set(hits)) == 60
    assert hits[:20] == [f"/chat/bob?around={seq}" for seq in range(45, 25, -1)]


def test_common_words_are_found_however_many_chats_there_are(
    environ: dict[str, str], alice: Person, bob: Person, charlie: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(30):
        charlie.post("alice", f"number {n}")
    for n in range(30):
        bob.post("alice", f"number {n}")
    monkeypatch.setattr(search, "CHATS", 1)
    index(environ)
    with in_this_process(environ, alice) as her:
        newest = [f"/chat/bob?around={seq}" for seq in range(30, 10, -1)]
        assert found(her, "number") == newest
        assert len(found(her, "number", **{"from": "20"})) == 20
        her.http.post("/chat/charlie/hide")
        assert found(her, "number") == newest


def test_nobody_finds_what_is_not_theirs(
    alice: Person, bob: Person, charlie: Person, chat: None, postgres: psycopg.Connection
) -> None:
    [(her_id,)] = postgres.execute("SELECT id FROM users WHERE username = 'charlie'").fetchall()
    bob.post("alice", f"user {her_id} 'user {her_id}' @{her_id} dinner")
    for q in ("dinner", "tickets", f"user {her_id}", "from:alice", "has:link", f'"user {her_id}"'):
        for more in ({}, {"in": "alice"}, {"in": "charlie"}):
            answer = charlie.http.get("/search", params={"q": q, **more})
            assert "around=" not in answer.text
    assert charlie.http.get("/search", params={"q": "dinner", "in": "nobody"}).status_code == 404
    assert seqs(bob, "dinner tickets") == []
    assert charlie.site.client({}).get("/search?q=dinner").status_code == 303


def test_edited_and_removed_messages_are_found_as_they_are_now(alice: Person, bob: Person, chat: None) -> None:
    alice.http.post("/chat/bob/messages/1", data={"body": "Supper on Friday"})
    alice.http.post("/chat/bob/messages/5/remove")
    for person in (alice, bob):
        assert seqs(person, "dinner") == []
        assert seqs(person, "supper") == [1]
        assert seqs(person, "from:alice") == [1, 3]


def test_held_messages_are_found_by_their_author_only(alice: Person, bob: Person, chat: None) -> None:
    block(bob, alice)
    alice.post("bob", "a held dinner")
    assert seqs(alice, "held") == [6]
    assert seqs(bob, "held") == []


def test_a_hit_is_marked_and_nothing_of_it_is_html(alice: Person, bob: Person) -> None:
    alice.post("bob", "<b>bold</b> & <mark>bold</mark> " + "x" * 500)
    page = Page(bob.http.get("/search", params={"q": "BOLD"}))
    assert [mark.get_text() for mark in page.html.select("mark")] == ["bold"] * 2
    assert "<b>bold</b>" in page.one(".hits .preview").get_text()
    assert not page.html.select(".hits .preview b b")


def test_the_newest_are_first_and_the_best_by_whole_words(alice: Person, bob: Person) -> None:
    for body in ("tea", "teapot", "teacup"):
        alice.post("bob", body)
    assert [hit[-1] for hit in found(alice, "tea")] == ["3", "2", "1"]
    assert [hit[-1] for hit in found(alice, "tea", order="best")] == ["1", "3", "2"]


def test_hits_come_in_pages(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    for n in range(45):
        alice.post("bob", f"number {n}")
    hits: list[str] = []
    address = "/search?q=number"
    while address:
        page = alice.page(address)
        hits += [str(link["href"]) for link in page.html.select(".hits a")]
        more = page.html.select("a[href*='from=']")
        address = str(more[0]["href"]) if more else ""
    assert len(hits) == len(set(hits)) == 45


@pytest.mark.parametrize(
    ("q", "says"),
    [
        ("x" * 201, "at most 200"),
        ("from:nobody hi", "Nobody here is called nobody"),
        ("before:yesterday", "like this: 2026-01-31"),
        ("after:2026-02-30", "like this: 2026-01-31"),
        ("has:money", "comes the word link"),
    ],
)
def test_what_cannot_be_looked_for_is_refused_in_words(alice: Person, q: str, says: str) -> None:
    page = Page(alice.http.get("/search", params={"q": q}))
    assert (page.status, says in page.errors) == (422, True)
    assert page.one("#q")["value"] == q


@pytest.mark.parametrize(
    "q",
    ["|", '"', '""', ":", "from:", "before:0000-00-00", "before:9999-12-31", "after:0001-01-01", "🎉", "'", "\\", "&|!",
     "a" * 200, "( " * 90, "۱۲۳", "\ud7ff", "x:*", "<->", "e.g", "\u202e", "://", "İ", "ß", "  "],
)  # fmt: skip
def test_hostile_searches_break_nothing(alice: Person, bob: Person, chat: None, q: str) -> None:
    for more in ({}, {"order": "best"}, {"in": "bob"}, {"from": "9" * 30}, {"from": "-1"}, {"order": "'"}):
        assert alice.http.get("/search", params={"q": q, **more}).status_code in (200, 422)


def test_the_form_is_there_without_a_search(alice: Person) -> None:
    page = BeautifulSoup(alice.http.get("/search").text, "html.parser")
    assert page.select_one("form[action='/search'] input[name=q]")
    assert not page.select(".hits")
