"""Real time: two people, their tabs, and two processes."""

import json

import psycopg
import pytest
from bs4 import BeautifulSoup
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests import site as sites
from tests.site import Person, Site


def test_a_message_reaches_both_and_its_nonce_is_the_answer(alice: Person, bob: Person) -> None:
    with alice.socket() as hers, bob.socket() as his:
        nonce = hers.write("bob", "Hello <b>Bob</b>")

        sent, received = hers.message(), his.message()

    assert sent == received
    assert (sent.seq, sent.version, sent.author, sent.nonce) == (1, 1, "alice", nonce)
    assert sent.body == "Hello <b>Bob</b>"


def test_an_outsider_receives_nothing(alice: Person, bob: Person, charlie: Person) -> None:
    with alice.socket() as hers, bob.socket() as his, charlie.socket() as outside:
        hers.write("bob", "between us")
        assert his.message().body == "between us"

        assert outside.hears_nothing_for(0.5)


def test_every_tab_of_both_gets_it_whichever_process_it_is_at(alice: Person, bob: Person) -> None:
    sockets = [person.socket() for person in (alice, bob) for _ in range(6)]
    tabs = [socket.__enter__() for socket in sockets]
    for n, tab in enumerate(tabs):
        tab.write("bob" if n < 6 else "alice", f"from {n}")

        assert {other.message().body for other in tabs} == {f"from {n}"}
    for socket in sockets:
        socket.__exit__(None, None, None)


def test_a_swap_says_where_it_goes(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    with bob.socket() as his:
        alice.post("bob", "hello")
        into_messages, into_chats = (his.frame().select("hx-upsert")[0] for _ in range(2))

    ((conversation,),) = postgres.execute("SELECT id FROM conversations").fetchall()
    assert into_messages["hx-target"] == f"#messages-{conversation}"
    assert (into_messages["key"], into_messages.has_attr("sort")) == ("data-seq", True)
    assert into_chats["hx-target"] == "#chats"
    assert into_chats.select(".name")[0].get_text() == "alice"
    assert into_chats.select(".unread")[0].get_text() == "1 unread"


def test_typing_is_seen_by_the_other_one_only(alice: Person, bob: Person, charlie: Person) -> None:
    with alice.socket() as hers, bob.socket() as his, charlie.socket() as outside:
        hers.send(action="typing", to="bob")

        assert "alice is typing" in his.frame().get_text()
        assert hers.hears_nothing_for(0.2)
        assert outside.hears_nothing_for(0.2)


def test_a_nonce_that_was_sent_before_is_answered_with_its_message(alice: Person, bob: Person) -> None:
    with alice.socket() as hers, bob.socket() as his:
        hers.write("bob", "once", nonce="n")
        first = hers.message()
        assert his.message() == first
        assert his.entry()

        hers.write("bob", "once more", nonce="n")

        assert hers.message() == first
        assert his.hears_nothing_for(0.3)


def test_a_message_that_was_kept_but_not_announced_is_announced_when_it_is_sent_again(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    with alice.socket() as hers, bob.socket() as his:
        hers.write("bob", "This one told everybody.")
        assert hers.message() == his.message()
        # As a process leaves it that is killed between the commit and the announcement.
        postgres.execute(
            "INSERT INTO messages SELECT conversation_id, 2, 2, author_id, 'second', 'This one did not.',"
            " now() - interval '5 seconds' FROM messages"
        )
        postgres.execute("UPDATE conversations SET version = 2, last_seq = 2")

        hers.write("bob", "This one did not.", nonce="second")

        assert hers.message().nonce == "second"
        assert hers.message().nonce == "second"  # the answer to the page that asked
        assert his.message().nonce == "second"
        for tab in (hers, his):
            assert "This one did not." in tab.entry().get_text()


@pytest.mark.parametrize(
    ("to", "body", "said"),
    [
        ("bob", "", "Write something"),
        ("bob", " \n ", "Write something"),
        ("bob", "x" * 4001, "4,001 characters"),
        ("bob", "a\x00b", "cannot be kept"),
        ("nobody", "hello", "Nobody here has that name"),
        ("alice", "hello", "Nobody here has that name"),
        ("bob\x00", "hello", "Nobody here has that name"),
    ],
)
def test_a_refused_send_says_why_on_the_same_socket(alice: Person, bob: Person, to: str, body: str, said: str) -> None:
    with alice.socket() as hers:
        nonce = hers.write(to, body)

        refusal = hers.refusal()
        assert refusal["data-nonce"] == nonce
        assert said in refusal.get_text()

        hers.write("bob", "the socket still works")
        assert hers.message().body == "the socket still works"


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "17", "null", '"send"', "{}", '{"action": 7}', '{"action": "dance"}', '{"action": "\\ud800"}',
     '{"action":"send","to":"bob","body":"\\ud800","nonce":"n"}', '{"action":"send","to":["bob"],"body":{},"nonce":1}'],
)  # fmt: skip
def test_a_malformed_frame_is_answered_in_words(alice: Person, text: str) -> None:
    with alice.socket() as hers:
        hers.websocket.send(text)
        assert hers.refusal().get_text()

        hers.websocket.send(text.encode())
        assert hers.refusal().get_text()


@pytest.mark.parametrize("version", ["", "x", "-1", "1" * 40, "1.5"])
def test_a_bad_version_to_read_changes_nothing(alice: Person, bob: Person, version: str) -> None:
    with bob.socket() as his:
        alice.post("bob", "hello")
        assert his.message().body == "hello"
        his.send(action="read", to="alice", version=version)
        his.send(action="read", to="nobody", version="1")
        his.write("alice", "still here")
        assert his.message().body == "still here"


def test_unknown_keys_are_ignored(alice: Person, bob: Person) -> None:
    with alice.socket() as hers:
        frame = {"action": "send", "to": "bob", "body": "hello", "nonce": "n", "headers": {"HX": "1"}, "more": [1, 2]}
        hers.websocket.send(json.dumps(frame))

        assert hers.message().body == "hello"


def test_a_frame_over_64_kib_closes_the_socket(alice: Person, bob: Person) -> None:
    with alice.socket() as hers:
        hers.write("bob", "x" * (64 * 1024))

        assert hers.close_code() == 1009


def test_a_flood_is_refused_in_words_beyond_the_rate(environ: dict[str, str], clean: None) -> None:
    with sites.running(environ, SOCKET_RATE="5", WEB_PROCESSES="1") as site:
        alice, bob = site.person("alice"), site.person("bob")
        with alice.socket() as hers:
            nonces = [hers.write("bob", f"number {n}") for n in range(30)]
            kept: set[str] = set()
            refused: set[str] = set()
            while len(kept) + len(refused) < 30:
                frame = hers.frame()
                for refusal in frame.select(".send-refused"):
                    assert refusal.has_attr("data-retry")
                    assert "again in a moment" in refusal.get_text()
                    refused.add(str(refusal["data-nonce"]))
                kept |= {message.nonce for message in sites.messages(frame)}

    assert kept | refused == set(nonces)
    assert 10 <= len(kept) < 20  # two seconds' worth at once, and what trickled in meanwhile
    assert bob


def test_without_a_session_the_socket_says_so_and_is_not_to_come_back(site: Site) -> None:
    with Person("nobody", site).socket() as tab:
        assert tab.close_code() == 4401


def test_a_page_of_another_site_opens_no_socket(alice: Person) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in alice.cookies.items())
    url = alice.site.url.replace("http", "ws") + "/ws"

    with connect(url, additional_headers={"Cookie": cookie, "Origin": alice.site.url}) as websocket:
        websocket.ping()
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(url, additional_headers={"Cookie": cookie, "Origin": "https://evil.example"}),
    ):
        pass


def test_what_a_page_missed_while_it_was_away_it_can_catch_up_with(alice: Person, bob: Person) -> None:
    with bob.socket() as his:
        alice.post("bob", "seen")
        held = his.message().version
    alice.post("bob", "missed")

    with bob.socket():
        answer = bob.http.get(f"/chat/alice/messages?after={held}", headers={"HX-Request": "true"})

    assert [message.body for message in sites.messages(BeautifulSoup(answer.text, "html.parser"))] == ["missed"]
