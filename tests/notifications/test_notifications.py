"""Who is told on Telegram, of what, and who is not."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import psycopg
import pytest
import redis

from tests.site import Person, eventually
from tests.telegram.fixtures import PATIENCE, SITE_URL, Knock
from web.live import presence


def test_who_is_logged_out_is_told_who_wrote_and_what_and_where_to_read_it(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")

    alice.post("bob", "Are you there?")

    card = knock.told(chat)
    assert "<b>alice</b>" in card
    assert "Are you there?" in card
    assert f'<a href="{SITE_URL}/chat/alice">' in card
    assert knock.settled(bob) == ["sent"]


def test_nobody_else_is_told(knock: Knock) -> None:
    alice, dora = knock.person("alice"), knock.person("dora")
    _, bobs_chat = knock.absent("bob")
    charlie, charlies_chat = knock.absent("charlie")
    doras_chat = knock.link(dora)
    knock.change(alice, telegram_chat_id=next(knock.chat_ids), token=0)

    alice.post("bob", "for bob alone")
    alice.post("dora", "for dora, who is logged in")

    knock.told(bobs_chat)
    time.sleep(2)
    assert {call.chat_id for call in knock.telegram.called()} == {bobs_chat}
    assert knock.rows(charlie) == knock.rows(dora) == knock.rows(alice) == []
    assert charlies_chat != doras_chat


def test_what_people_write_is_escaped_and_shortened(knock: Knock) -> None:
    alice = knock.person("alice")
    _, chat = knock.absent("bob")

    alice.post("bob", "<b>not bold</b> & \"quoted\" 'so'" + "x" * 400)

    card = knock.told(chat)
    assert "&lt;b&gt;not bold&lt;/b&gt; &amp; &#34;quoted&#34; &#39;so&#39;" in card
    assert "x" * 260 + "…" in card
    assert "x" * 300 not in card


def test_a_burst_is_one_card_that_is_edited_at_a_pace(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")

    alice.post("bob", "message 1")
    knock.told(chat)
    for number in range(2, 41):
        alice.post("bob", f"message {number}")
        time.sleep(0.1)
    assert set(knock.settled(bob)) <= {"sent", "cancelled"}

    (card,) = knock.telegram.shown(chat)
    assert all(f"message {number}\n" in card for number in range(1, 41))
    calls = knock.telegram.called(chat_id=chat)
    assert [call.method for call in calls] == ["sendMessage"] + ["editMessageText"] * (len(calls) - 1)
    assert len(calls) <= 5
    assert all(later.at - earlier.at >= 3 for earlier, later in pairwise(calls))


def test_a_long_burst_fits_into_a_card(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    knock.change(bob, telegram_not_before="2100-01-01")
    for number in range(15):
        alice.post("bob", f"message {number} " + "🚪" * 400)

    knock.change(bob, telegram_not_before=None)
    knock.hurry()

    assert knock.settled(bob) == ["sent"]
    (card,) = knock.telegram.shown(chat)
    assert len(card.encode("utf-16-le")) // 2 <= 4096
    assert "message 14" in card
    assert "earlier" in card


def test_a_card_that_is_a_minute_old_is_sent_anew_so_that_the_phone_rings(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    alice.post("bob", "the first")
    assert knock.settled(bob) == ["sent"]
    knock.postgres.execute("UPDATE notifications SET card_at = card_at - interval '61 s', told_at = card_at")

    alice.post("bob", "the second")

    assert knock.settled(bob) == ["sent", "sent"]
    eventually(lambda: len(knock.telegram.shown(chat)) == 1)
    (card,) = knock.telegram.shown(chat)
    assert "the first" in card
    assert "the second" in card
    methods = [call.method for call in knock.telegram.called(chat_id=chat)]
    assert methods == ["sendMessage", "sendMessage", "deleteMessage"]


def test_a_card_whose_messages_were_read_is_not_edited(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    alice.post("bob", "the first")
    assert knock.settled(bob) == ["sent"]
    read_everything(knock, bob)

    alice.post("bob", "the second")

    assert knock.settled(bob) == ["sent", "sent"]
    eventually(lambda: len(knock.telegram.shown(chat)) == 1)
    (card,) = knock.telegram.shown(chat)
    assert "the first" not in card
    assert [call.method for call in knock.telegram.called(chat_id=chat)][:2] == ["sendMessage", "sendMessage"]


def test_a_card_that_was_swiped_away_is_sent_again(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    alice.post("bob", "the first")
    assert knock.settled(bob) == ["sent"]
    knock.telegram.cards[chat].clear()

    alice.post("bob", "the second")

    assert knock.settled(bob) == ["sent", "sent"]
    assert "the second" in knock.telegram.shown(chat)[0]


def log_in(knock: Knock, person: Person) -> None:
    person.log_in()


def read_everything(knock: Knock, person: Person) -> None:
    knock.postgres.execute(
        "UPDATE participants SET read_seq = last_seq FROM conversations, users"
        " WHERE conversations.id = conversation_id AND users.id = user_id AND username = %s",
        [person.username],
    )


def unlink(knock: Knock, person: Person) -> None:
    knock.change(person, telegram_chat_id=None)


@pytest.mark.parametrize("meanwhile", [log_in, read_everything, unlink])
def test_who_comes_online_reads_or_unlinks_first_is_not_told(
    knock: Knock, meanwhile: Callable[[Knock, Person], None]
) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    knock.change(bob, telegram_not_before="2100-01-01")
    alice.post("bob", "hello")
    eventually(lambda: knock.rows(bob, "state, problem") == [("pending", "Telegram asked for a pause")], PATIENCE)

    meanwhile(knock, bob)
    knock.change(bob, telegram_not_before=None)
    knock.hurry()

    assert knock.settled(bob) == ["cancelled"]
    assert knock.telegram.called(chat_id=chat) == []


def test_who_wants_it_is_told_when_away_though_logged_in(knock: Knock, valkey: redis.Redis) -> None:
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
    with bob.socket():
        eventually(lambda: valkey.exists(f"live:{knock.user(bob, 'id')}"))
        alice.post("bob", "hello")
        knock.hurry()
        eventually(lambda: knock.rows(bob, "state, problem") == [("pending", "the user is not away")], PATIENCE)
    valkey.delete(f"live:{knock.user(bob, 'id')}")  # two minutes later
    assert knock.telegram.called(chat_id=chat) == []
    knock.hurry()

    assert knock.settled(bob) == ["sent"]


def test_nobody_is_told_while_a_tab_of_theirs_is_in_view(knock: Knock, valkey: redis.Redis) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    view = f"view:{knock.user(bob, 'id')}"
    valkey.zadd(view, {"another process": time.time() + presence.VIEW_SECONDS})

    alice.post("bob", "hello")
    eventually(lambda: knock.rows(bob, "state, problem") == [("pending", "a tab is in view")], PATIENCE)
    (wait,) = knock.rows(bob, "extract(epoch FROM due_at - now())")
    assert 25 < wait <= 30
    assert knock.telegram.called(chat_id=chat) == []
    valkey.delete(view)
    knock.hurry()

    assert knock.settled(bob) == ["sent"]


def test_a_message_whose_commit_is_late_is_told_of_too(knock: Knock) -> None:
    """It found a row waiting and wrote none of its own; the row must not be told of without it."""
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    knock.change(bob, telegram_not_before="2100-01-01")
    alice.post("bob", "the first")
    eventually(lambda: knock.rows(bob, "state, problem") == [("pending", "Telegram asked for a pause")], PATIENCE)
    knock.change(bob, telegram_not_before=None)

    with psycopg.connect(knock.environ["DATABASE_URL"].replace("+psycopg", "")) as late:
        late.execute("UPDATE conversations SET version = version + 1, last_seq = 2")
        late.execute(
            "INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at)"
            " SELECT conversation_id, 2, 2, author_id, 'late', 'the late one', now() FROM messages"
        )
        knock.hurry()
        time.sleep(2)
        assert knock.telegram.called(chat_id=chat) == []
        late.commit()

    assert knock.settled(bob) == ["sent"]
    assert "the late one" in knock.telegram.shown(chat)[0]


def test_two_conversations_are_two_cards(knock: Knock) -> None:
    alice, dora = knock.person("alice"), knock.person("dora")
    bob, chat = knock.absent("bob")

    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda person: person.post("bob", f"from {person.username}"), [alice, dora]))

    assert knock.settled(bob) == ["sent", "sent"]
    assert sorted(card.split("</b>")[0] for card in knock.telegram.shown(chat)) == ["<b>alice", "<b>dora"]
