"""Who is notified on Telegram, of what, and who is not: from the site through the worker."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import psycopg
import redis

from tests.site import eventually
from tests.telegram.fixtures import PATIENCE, SITE_URL, Knock


def test_who_is_logged_out_is_notified_of_who_wrote_what_and_where_to_read_it(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")

    alice.post("bob", "Are you there?")

    card = knock.card(chat)
    assert "<b>alice</b>" in card
    assert "Are you there?" in card
    assert f'<a href="{SITE_URL}/chat/alice">' in card
    assert knock.settled(bob) == ["sent"]


def test_nobody_else_is_notified(knock: Knock) -> None:
    alice, dora = knock.person("alice"), knock.person("dora")
    bob, bobs_chat = knock.absent("bob")
    charlie, charlies_chat = knock.absent("charlie")
    doras_chat = knock.link(dora)
    knock.change(alice, telegram_chat_id=next(knock.chat_ids), token=0)

    alice.post("bob", "for bob alone")
    alice.post("dora", "for dora, who is logged in")

    assert knock.settled(bob) == ["sent"]
    assert {call.chat_id for call in knock.telegram.called()} == {bobs_chat}
    assert knock.rows(charlie) == knock.rows(dora) == knock.rows(alice) == []
    assert charlies_chat != doras_chat


def test_a_burst_is_one_card_that_is_edited_at_a_pace(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")

    alice.post("bob", "message 1")
    knock.card(chat)
    for number in range(2, 21):
        alice.post("bob", f"message {number}")
    assert set(knock.settled(bob)) <= {"sent", "cancelled"}

    (card,) = knock.telegram.shown(chat)
    assert all(f"message {number}\n" in card for number in range(1, 21))
    calls = knock.telegram.called(chat_id=chat)
    assert [call.method for call in calls] == ["sendMessage"] + ["editMessageText"] * (len(calls) - 1)
    assert len(calls) <= 4
    assert all(later.at - earlier.at >= 3 for earlier, later in pairwise(calls))


def test_who_logs_in_first_is_not_notified(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    knock.change(bob, telegram_not_before="2100-01-01")
    alice.post("bob", "hello")
    eventually(lambda: knock.rows(bob, "state, problem") == [("pending", "Telegram demanded a pause")], PATIENCE)

    bob.log_in()
    knock.change(bob, telegram_not_before=None)
    knock.hurry()

    assert knock.settled(bob) == ["cancelled"]
    assert knock.telegram.called(chat_id=chat) == []


def test_who_wants_it_is_notified_when_away_though_logged_in(knock: Knock, valkey: redis.Redis) -> None:
    alice, bob = knock.person("alice"), knock.person("bob")
    chat = knock.link(bob)
    knock.change(bob, notify_when_away=True)
    assert knock.user(bob, "token") == 1

    alice.post("bob", "hello")
    eventually(lambda: knock.rows(bob, "state, problem") == [("pending", "the user is not away")], PATIENCE)
    (wait,) = knock.rows(bob, "extract(epoch FROM due_at - now())")
    assert 100 < wait <= 121  # logging in counts as a live tab
    assert knock.telegram.called(chat_id=chat) == []
    valkey.delete(f"live:{knock.user(bob, 'id')}")  # two minutes later
    knock.hurry()

    assert knock.settled(bob) == ["sent"]
    assert "hello" in knock.telegram.shown(chat)[0]


def test_who_has_a_tab_open_is_not_away(knock: Knock, valkey: redis.Redis) -> None:
    alice, bob = knock.person("alice"), knock.person("bob")
    chat = knock.link(bob)
    knock.change(bob, notify_when_away=True)
    live = f"live:{knock.user(bob, 'id')}"
    with bob.socket():
        eventually(lambda: valkey.exists(live))
        alice.post("bob", "hello")
        knock.hurry()
        eventually(lambda: knock.rows(bob, "state, problem") == [("pending", "the user is not away")], PATIENCE)
        assert knock.telegram.called(chat_id=chat) == []

    def is_told_later() -> bool:
        valkey.delete(live)  # each time: the process hears a little later that the tab was closed
        if knock.rows(bob) == ["pending"]:  # once claimed it is not hurried: it would be another one's then
            knock.hurry()
        return knock.rows(bob) == ["sent"]

    eventually(is_told_later, PATIENCE)


def test_a_muted_chat_knocks_on_nobodys_telegram(knock: Knock, postgres: psycopg.Connection) -> None:
    alice, dora = knock.person("alice"), knock.person("dora")
    bob, chat = knock.absent("bob")
    dora.post("bob", "from dora")
    knock.card(chat)
    postgres.execute(
        "UPDATE participants SET muted_until = now() + interval '1 hour' FROM users"
        " WHERE users.id = user_id AND username = 'bob'"
    )

    dora.post("bob", "muted")
    alice.post("bob", "not muted, since this chat is new")

    eventually(lambda: sorted(knock.rows(bob)) == ["cancelled", "sent", "sent"], PATIENCE)
    assert not any("muted</" in card or "\nmuted" in card for card in knock.telegram.shown(chat))


def test_two_conversations_are_two_cards(knock: Knock) -> None:
    alice, dora = knock.person("alice"), knock.person("dora")
    bob, chat = knock.absent("bob")

    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda person: person.post("bob", f"from {person.username}"), [alice, dora]))

    assert knock.settled(bob) == ["sent", "sent"]
    assert sorted(card.split("</b>")[0] for card in knock.telegram.shown(chat)) == ["<b>alice", "<b>dora"]
