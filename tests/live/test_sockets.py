"""Real time: two people, their tabs, and two processes."""

import json
from types import SimpleNamespace

import psycopg
import pytest
from bs4 import BeautifulSoup
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests import site as sites
from tests.site import Page, Person, Site
from web.accounts import pace


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

        hers.write("charlie", "for charlie")
        assert [message.body for message in sites.messages(outside.frame())] == ["for charlie"]
        assert "for charlie" in outside.entry().get_text()


def test_every_tab_of_both_gets_it_in_every_process(alice: Person, bob: Person) -> None:
    with alice.sockets() as hers, bob.sockets() as his:
        for n, tab in enumerate([*hers, *his]):
            tab.write("bob" if tab in hers else "alice", f"from {n}")

            assert {other.message().body for other in [*hers, *his]} == {f"from {n}"}


def test_a_swap_says_where_it_goes(alice: Person, bob: Person, postgres: psycopg.Connection) -> None:
    with bob.socket() as his:
        alice.post("bob", "hello")
        into_messages, into_chats = (his.frame().select("hx-upsert")[0] for _ in range(2))

    ((conversation,),) = postgres.execute("SELECT id FROM conversations").fetchall()
    assert str(into_messages["hx-target"]).startswith(f"#messages-{conversation}, ")
    assert (into_messages["key"], into_messages.has_attr("sort")) == ("data-seq", True)
    assert into_chats["hx-target"] == "#chats"
    assert into_chats.select(".name")[0].get_text() == "alice"
    assert into_chats.select(".unread")[0].get_text() == "1 unread"


def test_typing_is_seen_by_the_other_one_only(alice: Person, bob: Person, charlie: Person) -> None:
    alice.post("bob", "hello")
    with alice.socket() as hers, bob.socket() as his, charlie.socket() as outside:
        hers.send(action="typing", to="bob")

        assert his.next("[data-say=typing]").get_text() == "alice is typing…"
        hers.write("charlie", "the next frame")
        for tab in (hers, outside):
            while (frame := tab.frame()).select("[hx-target='#presence'], [hx-target='#chats']"):
                pass  # he came, and her first message is in her list
            assert [message.body for message in sites.messages(frame)] == ["the next frame"]


def test_a_nonce_that_was_sent_before_is_answered_with_its_message(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    with alice.socket() as hers, bob.socket() as his:
        hers.write("bob", "once", nonce="n")
        first = hers.message()
        assert his.message() == first
        # After a second the process that committed it may be dead, and it is announced again.
        postgres.execute("UPDATE messages SET created_at = now() + interval '1 hour'")

        hers.write("bob", "once more", nonce="n")

        assert hers.message() == first
        hers.write("bob", "the next one")
        assert his.message().body == "the next one"


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


@pytest.mark.parametrize("version", ["", "x", "-1", "1e3", "1.5", "¹", "1" * 25])
def test_a_bad_version_to_read_changes_nothing(alice: Person, bob: Person, version: str) -> None:
    alice.post("bob", "hello")
    with bob.socket() as his:
        his.send(action="read", to="alice", version=version)
        his.send(action="read", to="nobody", version="1")

        assert his.is_open()
    assert bob.page("/").one(".unread").get_text() == "1 unread"


def test_unknown_keys_are_ignored(alice: Person, bob: Person) -> None:
    with alice.socket() as hers:
        frame = {"action": "send", "to": "bob", "body": "hello", "nonce": "n", "headers": {"HX": "1"}, "more": [1, 2]}
        hers.websocket.send(json.dumps(frame))

        assert hers.message().body == "hello"


def test_a_frame_over_64_kib_closes_the_socket(alice: Person, bob: Person) -> None:
    with alice.socket() as hers:
        hers.write("bob", "x" * (64 * 1024))

        assert hers.close_code() == 1009


def test_a_user_has_one_pace_over_all_sockets_and_http(
    environ: dict[str, str], clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: now))
    with sites.in_this_process(environ, SOCKET_RATE="5") as site:
        alice, bob = site.person("alice"), site.person("bob")
        with alice.socket() as one, alice.socket() as other:
            for n in range(4):  # together with the next two, two seconds' worth
                one.write("bob", f"one {n}")
                assert one.message() == other.message()
                other.write("bob", f"other {n}")
                assert one.message() == other.message()
            other.send(action="typing", to="bob")
            assert alice.post("bob", "by HTTP").status_code == 303
            assert one.message().body == other.message().body == "by HTTP"

            for tab in (one, other):
                nonce = tab.write("bob", "too much")
                refusal = tab.refusal()
                assert (refusal["data-nonce"], refusal.has_attr("data-retry")) == (nonce, True)
                assert "again in a moment" in refusal.get_text()
            answer = alice.post("bob", "keep this", nonce="n")
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
            page = Page(answer)
            assert page.one("textarea").get_text().strip() == "keep this"
            assert page.one("input[name=nonce]")["value"] == "n"
            assert bob.post("alice", "Bob has a pace of his own").status_code == 303

            now += 0.2
            assert alice.post("bob", "keep this", nonce="n").status_code == 303
            assert alice.post("bob", "too soon").status_code == 429


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
