"""Answers: a quote is what the quoted message is now, wherever it is shown."""

import psycopg
import redis

from tests.chat.test_cache import cached
from tests.chat.test_changes import refused
from tests.site import Person, Tab, eventually


def answer(tab: Tab, to: str, body: str, reply_to: str, nonce: str) -> None:
    tab.send(action="send", to=to, body=body, nonce=nonce, reply_to=reply_to)


def test_an_answer_shows_whom_and_what_it_answers_and_leads_there(alice: Person, bob: Person) -> None:
    alice.post("bob", "Dinner?\nAt eight.")
    with alice.socket() as hers, bob.socket() as his:
        answer(his, "alice", "Yes", "1", "n")
        for tab in (hers, his):
            quote = tab.next(".message-quote")
            assert (quote["data-seq"], quote["href"]) == ("1", "?around=1")
            assert [quote.b and quote.b.get_text(), quote.span and quote.span.get_text()] == ["alice", "Dinner?"]
        answer(his, "alice", "Yes", "1", "n")  # sent again
        assert his.next(".message-quote")
    assert len(alice.page("/chat/bob").html.select(".message-quote")) == 1
    answered = bob.http.post("/chat/alice/messages", data={"body": "No", "nonce": "m", "reply_to": "2"})
    assert answered.status_code == 303
    assert [quote["data-seq"] for quote in alice.page("/chat/bob").html.select(".message-quote")] == ["1", "2"]


def test_quotes_follow_edits_and_removals_live_in_the_cache_and_after_a_cut(
    alice: Person, bob: Person, valkey: redis.Redis
) -> None:
    alice.post("bob", "a sekret")
    bob.http.post("/chat/alice/messages", data={"body": "which?", "nonce": "n", "reply_to": "1"})
    bob.page("/chat/alice")
    with bob.socket() as his:
        alice.http.post("/chat/bob/messages/1", data={"body": "a secret"})
        while not (frame := his.frame()).select(".message"):
            pass  # his list, of what he read before
        assert [item["data-version"] for item in frame.select(".message")] == ["3", "4"]
        assert frame.select(".message-quote[data-changed]")[0].get_text() == "alicea secret"
        assert "a secret" in bob.page("/chat/alice/messages?after=2&first=2").one(".message-quote").get_text()
        alice.http.post("/chat/bob/messages/1/remove")
        assert his.next(".message-quote[data-gone]").get_text() == "alice"
    eventually(lambda: (cached(valkey) or [""])[0] == "6:2")
    assert "a s" not in str(cached(valkey))
    for path in ("/chat/alice", "/chat/alice/messages?after=2&first=2", "/chat/alice?message=2"):
        assert "a s" not in bob.page(path).one(".message-quote").get_text()


def test_only_a_message_of_the_same_chat_can_be_answered(
    alice: Person, bob: Person, charlie: Person, postgres: psycopg.Connection
) -> None:
    alice.post("bob", "one")
    for body in ("one", "two"):
        alice.post("charlie", body)
    with alice.socket() as hers:
        for seq in ("2", "0", "x", "-1", "9" * 30):
            frame = {"action": "send", "to": "bob", "body": "an answer", "nonce": "n", "reply_to": seq}
            assert "not in this chat" in refused(hers, **frame)
    page = alice.http.post("/chat/bob/messages", data={"body": "an answer", "nonce": "n", "reply_to": "2"})
    assert page.status_code == 422
    assert "an answer" in page.text
    assert postgres.execute("SELECT count(*) FROM messages").fetchone() == (3,)
