"""Writing and reading without JavaScript: the chat list, the window, the form."""

import re
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests import site as sites
from tests.faults.proxy import Proxy
from tests.site import Page, Person, Site, messages


def test_a_message_is_posted_and_both_read_it(alice: Person, bob: Person) -> None:
    answer = alice.post("bob", "Hello Bob")

    assert (answer.status_code, answer.headers["location"]) == (303, "/chat/bob")
    assert alice.page("/chat/bob").bodies == ["Hello Bob"]
    assert bob.page("/chat/alice").bodies == ["Hello Bob"]


def test_an_outsider_sees_nothing_of_it(alice: Person, bob: Person, charlie: Person) -> None:
    alice.post("bob", "between us")
    assert bob.page("/").chats == ["alice"]

    assert charlie.page("/").chats == []
    assert "between us" not in charlie.page("/chat/alice").response.text
    assert "between us" not in charlie.http.get("/chat/alice/messages?after=0").text


def test_the_chat_list_has_the_chats_with_messages_newest_first(alice: Person, bob: Person, charlie: Person) -> None:
    alice.page("/chat/bob")
    assert alice.page("/").chats == []

    alice.post("bob", "first")
    charlie.post("alice", "second")
    assert alice.page("/").chats == ["charlie", "bob"]

    bob.post("alice", "third")
    assert alice.page("/").chats == ["bob", "charlie"]
    assert alice.page("/").one("#chats li:first-child .preview").get_text() == "third"
    assert bob.page("/").one("#chats .preview").get_text() == "You: third"


def test_unread_messages_are_counted_until_the_chat_is_opened(alice: Person, bob: Person) -> None:
    for n in range(3):
        alice.post("bob", f"number {n}")

    assert bob.page("/").one(".unread").get_text() == "3 unread"
    assert not alice.page("/").html.select(".unread")
    bob.page("/chat/alice")
    assert not bob.page("/").html.select(".unread")


def test_sending_marks_earlier_messages_as_read(alice: Person, bob: Person) -> None:
    alice.post("bob", "a question")
    bob.post("alice", "an answer")

    assert not bob.page("/").html.select(".unread")
    assert alice.page("/").one(".unread").get_text() == "1 unread"


@pytest.mark.parametrize("body", ["", "  \n\t ", "x" * 4001, "a\x00b"])
def test_a_bad_message_is_refused_in_words_and_kept_in_the_composer(alice: Person, bob: Person, body: str) -> None:
    page = Page(alice.post("bob", body))

    assert page.status == 422
    assert page.errors
    assert page.one("#body").get_text().lstrip("\n") == body.lstrip("\n")
    assert alice.page("/chat/bob").bodies == []


@pytest.mark.parametrize(
    "body",
    [
        "x" * 4000,
        "🚪" * 4000,
        "<script>alert(1)</script>",
        "a\nb\n\nc",
        "  indented",
        "&amp; {{ 7*7 }}",
        "100 % %s %(seq)s",
        "שלום\u202e",
    ],
)
def test_a_message_is_shown_exactly_as_it_was_written(alice: Person, bob: Person, body: str) -> None:
    assert alice.post("bob", body).status_code == 303

    assert bob.page("/chat/alice").bodies == [body]
    assert bob.page("/chat/alice").bodies == [body]  # now from Redis
    assert not bob.page("/chat/alice").html.select(".message-body script")


def test_a_form_says_crlf_and_means_a_new_line(alice: Person, bob: Person) -> None:
    alice.post("bob", "a\r\nb")

    assert bob.page("/chat/alice").bodies == ["a\nb"]


def test_addresses_become_links_and_stay_escaped(alice: Person, bob: Person) -> None:
    alice.post("bob", "see https://example.com/?a=1&b=<i>, or javascript:alert(1), or mail bob@example.com")

    links = bob.page("/chat/alice").html.select(".message-body a")
    assert [link["href"] for link in links] == ["https://example.com/?a=1&b=", "mailto:bob@example.com"]
    assert all("noopener" in link["rel"] for link in links)


def test_the_same_nonce_is_the_same_message(alice: Person, bob: Person) -> None:
    first = alice.http.post("/chat/bob/messages", data={"body": "once", "nonce": "n"}, headers={"HX-Request": "true"})
    again = alice.http.post("/chat/bob/messages", data={"body": "twice", "nonce": "n"}, headers={"HX-Request": "true"})

    assert first.status_code == again.status_code == 200
    assert first.text == again.text
    assert bob.page("/chat/alice").bodies == ["once"]


def test_a_hundred_times_the_same_nonce_at_once_at_two_processes_is_one_row(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    def post(_: int) -> str:
        browser = alice.site.client(alice.cookies)  # a connection of its own, so either process may take it
        form = {"body": "once", "nonce": "n"}
        return browser.post("/chat/bob/messages", data=form, headers={"HX-Request": "true"}).text

    with ThreadPoolExecutor(20) as pool:
        answers = set(pool.map(post, range(100)))

    assert len(answers) == 1
    assert postgres.execute("SELECT seq, body FROM messages").fetchall() == [(1, "once")]


def test_everybody_writing_at_once_gets_a_seq_without_gaps_or_doubles(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    with ThreadPoolExecutor(16) as pool:
        people = [alice, bob] * 50
        answers = list(pool.map(lambda n: people[n].post("bob" if people[n] is alice else "alice", str(n)), range(100)))

    assert {answer.status_code for answer in answers} == {303}
    rows = postgres.execute("SELECT seq, version, body FROM messages ORDER BY seq").fetchall()
    assert [row[:2] for row in rows] == [(n, n) for n in range(1, 101)]
    assert {row[2] for row in rows} == {str(n) for n in range(100)}
    assert alice.page("/chat/bob").bodies == [row[2] for row in rows[-50:]]


def fill(postgres: psycopg.Connection, count: int) -> None:
    """Add messages to a new chat of the only two users, which both have read."""
    postgres.execute("INSERT INTO conversations (low_user_id, high_user_id) SELECT min(id), max(id) FROM users")
    postgres.execute("INSERT INTO participants SELECT conversations.id, users.id FROM conversations, users")
    postgres.execute(
        "INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at, readers)"
        " SELECT id, n, n, low_user_id, n::text, 'number ' || n, now(),"
        " ARRAY['user ' || low_user_id, 'user ' || high_user_id]"
        " FROM conversations, generate_series(1, %s) AS n",
        [count],
    )
    postgres.execute("UPDATE conversations SET last_seq = %s, version = %s", [count, count])
    postgres.execute("UPDATE participants SET active_at = now(), read_seq = %s", [count])


def test_older_messages_are_a_link_away(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    fill(postgres, 120)

    read: list[str] = []
    page = alice.page("/chat/bob")
    while True:
        read = page.bodies + read
        assert len(read) <= 120
        if not (more := page.html.select(".more a[href*=before]")):
            break
        page = alice.page(str(more[0]["href"]))

    assert read == [f"number {n}" for n in range(1, 121)]
    assert "begins" in page.one(".beginning").get_text()


def test_to_htmx_older_messages_are_a_fragment(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    fill(postgres, 60)

    page = Page(alice.http.get("/chat/bob/messages?before=11", headers={"HX-Request": "true"}))

    assert page.bodies == [f"number {n}" for n in range(1, 11)]
    assert not page.html.select("body")


def test_a_catch_up_has_everything_since_the_version_in_as_many_pages_as_it_takes(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    fill(postgres, 450)

    caught, after, pages = [], 17, 0
    while True:
        page = Page(alice.http.get(f"/chat/bob/messages?after={after}", headers={"HX-Request": "true"}))
        caught += [message.seq for message in messages(page.html)]
        after, pages = int(str(page.one("#cursor")["value"])), pages + 1
        if not page.html.select("#catch-up"):
            break

    assert caught == list(range(18, 451))
    assert (after, pages) == (450, 3)


@pytest.mark.parametrize("query", ["before=x", "after=-1", "before=99999999999999999999", "after=1e3"])
def test_a_bad_number_is_refused(alice: Person, bob: Person, query: str) -> None:
    assert alice.http.get(f"/chat/bob/messages?{query}").status_code == 422


@pytest.mark.parametrize("name", ["nobody", "alice", "%F0%9F%9A%AA"])
def test_a_chat_with_nobody_or_oneself_is_not_there(alice: Person, name: str) -> None:
    assert alice.http.get(f"/chat/{name}", follow_redirects=True).status_code == 404
    assert alice.http.post(f"/chat/{name}/messages", data={"body": "x", "nonce": "n"}).status_code == 404


def test_a_name_leads_to_its_chat_in_any_case(alice: Person, bob: Person) -> None:
    alice.post("BOB", "hello")

    assert bob.page("/chat/Alice").bodies == ["hello"]


def test_a_message_has_its_attributes(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    alice.post("bob", "hello", nonce="my-nonce")

    ((conversation,),) = postgres.execute("SELECT id FROM conversations").fetchall()
    (shown,) = messages(bob.page("/chat/alice").html)
    assert (shown.id, shown.seq, shown.version) == (f"message-{conversation}-1", 1, 1)
    assert (shown.author, shown.nonce) == ("alice", "my-nonce")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", str(bob.page("/chat/alice").one("ol time")["datetime"]))


@pytest.mark.parametrize("nonce", ['"><script>alert(1)</script>', "%(body)s&amp;'"])
def test_a_nonce_is_shown_exactly_as_it_was_sent(alice: Person, bob: Person, nonce: str) -> None:
    assert alice.post("bob", "hello", nonce=nonce).status_code == 303

    page = bob.page("/chat/alice").html
    assert [shown.nonce for shown in messages(page)] == [nonce]
    assert not page.select("ol script")


def test_the_chat_list_comes_in_pages(site: Site, alice: Person, postgres: psycopg.Connection) -> None:
    postgres.execute(
        "INSERT INTO users (username, password_hash) SELECT 'user' || n, '' FROM generate_series(1, 120) n"
    )
    postgres.execute(
        "INSERT INTO conversations (low_user_id, high_user_id, version, last_seq)"
        " SELECT (SELECT id FROM users WHERE username = 'alice'), id, 1, 1 FROM users WHERE username != 'alice'"
    )
    postgres.execute(
        "INSERT INTO participants SELECT id, unnest(ARRAY[low_user_id, high_user_id]), 0,"
        " now() - id * interval '1 minute' FROM conversations"
    )
    postgres.execute("INSERT INTO messages SELECT id, 1, 1, high_user_id, 'n', 'hello', now() FROM conversations")

    seen: list[str] = []
    page = alice.page("/")
    while True:
        seen += page.chats
        if not (more := page.html.select(".more a")):
            break
        page = alice.page(str(more[0]["href"]))

    assert seen == [f"user{n}" for n in range(1, 121)]


def test_while_the_database_is_away_a_message_waits_in_a_form_of_its_own(
    environ: dict[str, str], clean: None, postgres: psycopg.Connection
) -> None:
    upstream = environ["DATABASE_URL"].split("host=")[1] + "/.s.PGSQL.5432"
    with (
        Proxy(upstream).running() as proxy,
        sites.in_this_process(environ, DATABASE_URL=f"postgresql://knock@127.0.0.1:{proxy.port}/postgres") as site,
    ):
        alice, bob = site.person("alice"), site.person("bob")
        proxy.refuse()

        answer = alice.post("bob", "keep this", nonce="n")
        page = Page(answer)
        assert (page.status, answer.headers["retry-after"]) == (503, "3")
        assert page.one("textarea").get_text().strip() == "keep this"
        assert page.one("input[name=nonce]")["value"] == "n"

        proxy.accept()
        assert alice.post("bob", "keep this", nonce="n").status_code == 303
        assert bob.page("/chat/alice").bodies == ["keep this"]


@pytest.mark.parametrize("scripts", [False, True])
def test_without_scripts_what_a_page_shows_counts_as_read(
    alice: Person, bob: Person, postgres: psycopg.Connection, scripts: bool
) -> None:
    fill(postgres, 200)
    postgres.execute("UPDATE participants SET read_seq = 100")
    if scripts:
        alice.http.cookies.set("scripts", "1")

    page = alice.page("/chat/bob")

    assert page.bodies[-1] == "number 125"
    ((read,),) = postgres.execute("SELECT read_seq FROM participants WHERE user_id = (SELECT min(id) FROM users)")
    assert read == (100 if scripts else 125)
    alice.page("/chat/bob?end=1")
    ((read,),) = postgres.execute("SELECT read_seq FROM participants WHERE user_id = (SELECT min(id) FROM users)")
    assert read == (100 if scripts else 200)
