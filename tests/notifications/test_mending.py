"""Cards follow edits and removals: through the site, the worker and the real aiogram."""

import psycopg

from tests.site import Person, eventually
from tests.telegram.fixtures import PATIENCE, Knock


def edit(author: Person, to: str, seq: int, body: str) -> None:
    assert author.http.post(f"/chat/{to}/messages/{seq}", data={"body": body}).status_code == 303


def remove(author: Person, to: str, seq: int) -> None:
    assert author.http.post(f"/chat/{to}/messages/{seq}/remove").status_code == 303


def shows(knock: Knock, chat: int, *parts: str) -> bool:
    """Whether Telegram shows one card, with all of these on it."""
    shown = knock.telegram.shown(chat)
    return len(shown) == 1 and all(part in shown[0] for part in parts)


def test_a_card_shows_an_edit_and_loses_what_was_removed_without_a_sound(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    for body in ("one", "a sekret"):
        alice.post("bob", body)
    eventually(lambda: shows(knock, chat, "one", "a sekret"), PATIENCE)
    knock.settled(bob)

    edit(alice, "bob", 1, "first")
    eventually(lambda: shows(knock, chat, "first", "a sekret"), PATIENCE)
    remove(alice, "bob", 2)
    eventually(lambda: shows(knock, chat, "first") and "sekret" not in knock.telegram.shown(chat)[0], PATIENCE)
    remove(alice, "bob", 1)
    eventually(lambda: knock.telegram.shown(chat) == [], PATIENCE)

    assert len(knock.telegram.called("sendMessage", chat_id=chat)) == 1


def test_a_card_follows_also_when_its_reader_is_back(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    alice.post("bob", "a secret")
    knock.card(chat)
    knock.settled(bob)
    bob.log_in()

    remove(alice, "bob", 1)

    eventually(lambda: knock.telegram.shown(chat) == [], PATIENCE)


def test_a_card_that_is_too_old_to_be_deleted_says_what_became_of_it(
    knock: Knock, postgres: psycopg.Connection
) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    alice.post("bob", "a secret")
    knock.card(chat)
    knock.settled(bob)
    postgres.execute("UPDATE notifications SET card_at = card_at - interval '3 days', told_at = card_at")

    remove(alice, "bob", 1)

    eventually(
        lambda: shows(knock, chat, "alice", "removed") and "secret" not in knock.telegram.shown(chat)[0], PATIENCE
    )


def test_what_was_changed_before_it_was_sent_is_sent_as_it_is_now_or_not_at_all(knock: Knock) -> None:
    alice = knock.person("alice")
    _, chat = knock.absent("bob")
    knock.telegram.order({"retry_after": 3}, method="sendMessage")
    alice.post("bob", "a sekret")
    alice.post("bob", "gone")
    eventually(lambda: knock.telegram.called("sendMessage", chat_id=chat), PATIENCE)
    edit(alice, "bob", 1, "a secret")
    remove(alice, "bob", 2)

    eventually(lambda: shows(knock, chat, "a secret") and "gone" not in knock.telegram.shown(chat)[0], PATIENCE)


def test_a_card_goes_when_its_messages_are_read_and_its_author_sees_both(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    with alice.socket() as hers:
        alice.post("bob", "one")
        knock.card(chat)
        knock.settled(bob)
        while not (entry := hers.entry()).get("data-told-at"):
            pass
        assert entry["data-state"] == "told"
        assert "Told on Telegram" in alice.page("/chat/bob").one(".reading").get_text()

        bob.log_in()
        bob.page("/chat/alice")
        while hers.entry()["data-state"] != "read":
            pass
    eventually(lambda: knock.telegram.shown(chat) == [], PATIENCE)


def test_a_card_keeps_what_is_not_read_yet(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    for body in ("number one", "number two"):
        alice.post("bob", body)
    eventually(lambda: shows(knock, chat, "number one", "number two"), PATIENCE)
    knock.settled(bob)
    bob.log_in()
    with bob.socket() as his:
        his.send(action="read", to="alice", seq="1")
        assert his.entry()

    eventually(lambda: shows(knock, chat, "two") and "one" not in knock.telegram.shown(chat)[0], PATIENCE)


def test_a_card_that_is_too_old_to_be_deleted_says_that_it_was_read(knock: Knock, postgres: psycopg.Connection) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    alice.post("bob", "a secret")
    knock.card(chat)
    knock.settled(bob)
    postgres.execute("UPDATE notifications SET card_at = card_at - interval '3 days', told_at = card_at")
    bob.log_in()
    bob.page("/chat/alice")

    eventually(lambda: shows(knock, chat, "alice", "have read"), PATIENCE)
