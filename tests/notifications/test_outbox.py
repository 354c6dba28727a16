"""The outbox on PostgreSQL: who gets a row, what a claim reads, and what becomes of the row."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.notifications.scene import Scene
from web.data.postgres import database
from web.live.presence import AWAY, Presence
from web.notifications import outbox
from web.notifications.outbox import Claim
from web.notifications.rules import Unread
from web.telegram.errors import TelegramError

BLIP = TelegramError("Telegram says: no.")


def test_who_is_linked_and_logged_out_or_wants_it_when_away_is_notified(scene: Scene) -> None:
    """Both when a message is written and when a row is claimed that was wanted when it was written."""
    wanted = {
        ("linked", "logged out", "not when away"): True,
        ("linked", "logged out", "when away"): True,
        ("linked", "logged in", "when away"): True,
        ("linked", "logged in", "not when away"): False,
        ("not linked", "logged out", "not when away"): False,
        ("not linked", "logged out", "when away"): False,
        ("not linked", "logged in", "when away"): False,
        ("not linked", "logged in", "not when away"): False,
    }
    written, claimed = {}, {}
    for linked, logged, when_away in wanted:
        user = scene.user(f"{linked}, {logged}, {when_away}")
        (notification,) = scene.write("hello", conversation=scene.begin(scene.alice, user))
        scene.change(user, token=int(logged == "logged in"), notify_when_away=when_away == "when away")
        if linked == "not linked":
            scene.change(user, telegram_chat_id=None)

        due = scene.write("hello", author=scene.bob, conversation=scene.begin(scene.bob, user))
        written[linked, logged, when_away] = len(due) == 1
        claimed[linked, logged, when_away] = scene.claim(notification) is not None

    assert written == wanted
    assert claimed == wanted


def test_nobody_is_notified_of_their_own_message(scene: Scene) -> None:
    scene.change(scene.alice, token=0)

    (notification,) = scene.write("hello")

    assert scene.row(notification, "user_id") == scene.bob


def test_a_claim_has_all_that_a_card_needs(scene: Scene) -> None:
    (notification,) = scene.write("one")
    scene.write("two")
    before = scene.now()

    claim = scene.claimed(notification)

    assert (claim.user_id, claim.conversation_id, claim.chat_id) == (scene.bob, scene.conversation, scene.chat_id)
    assert claim.chat == "alice"
    assert claim.messages == [Unread(1, "alice", "one", 0), Unread(2, "alice", "two", 1)]
    assert (claim.attempts, claim.card_id, claim.card_at) == (1, None, None)
    assert scene.row(notification, "state, attempts, due_at") == ("sending", 1, claim.lease)
    assert scene.is_after(claim.lease, 20, before)


def test_a_chat_is_called_by_its_other_people_and_its_messages_by_their_authors(scene: Scene) -> None:
    dora, charlie = scene.user("dora", token=1), scene.user("charlie", token=1)
    chat = scene.begin(scene.bob, charlie, scene.alice, dora)
    (notification,) = scene.write("from dora", author=dora, conversation=chat)
    scene.write("from alice", conversation=chat)

    claim = scene.claimed(notification)

    assert claim.chat == "alice, dora, charlie"
    assert [(message.author, message.body) for message in claim.messages] == [
        ("dora", "from dora"),
        ("alice", "from alice"),
    ]


def test_a_card_shows_the_hundred_newest_and_says_how_many_are_earlier(scene: Scene) -> None:
    (notification,) = scene.write("message 1")
    scene.postgres.execute(
        "INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at)"
        " SELECT %s, n, n, %s, 'later ' || n, 'message ' || n, now() FROM generate_series(2, 105) AS n",
        [scene.conversation, scene.alice],
    )

    claim = scene.claimed(notification)

    assert [message.seq for message in claim.messages] == list(range(6, 106))
    assert claim.messages[0].earlier == 5


def test_what_was_read_removed_or_written_by_oneself_is_not_on_the_card(scene: Scene) -> None:
    (notification,) = scene.write("read")
    scene.write("removed")
    scene.write("unread")
    scene.postgres.execute("UPDATE participants SET read_seq = 1 WHERE user_id = %s", [scene.bob])
    scene.postgres.execute("UPDATE messages SET removed_at = now(), body = '' WHERE seq = 2")
    scene.postgres.execute(
        "INSERT INTO messages SELECT conversation_id, 4, 4, %s, '', '', now() FROM messages WHERE seq = 1", [scene.bob]
    )

    assert scene.claimed(notification).messages == [Unread(3, "alice", "unread", 0)]


def test_a_claim_waits_for_a_message_whose_commit_is_late(scene: Scene) -> None:
    """Its writer found a row waiting and added none, so that row must not be sent without it."""
    (notification,) = scene.write("the first")
    elsewhere = scene.write("hello", conversation=scene.begin(scene.alice, scene.user("dora")))

    async def commit_once_the_claim_waits() -> Claim | None:
        async with scene.engine.begin() as late:
            lock = text("UPDATE conversations SET version = version + 1, last_seq = 2 WHERE id = :id")
            await late.execute(lock, {"id": scene.conversation})
            await late.execute(
                text(
                    "INSERT INTO messages (conversation_id, seq, version, author_id, nonce, body, created_at)"
                    " VALUES (:chat, 2, 2, :alice, 'late', 'the late one', now())"
                ),
                {"chat": scene.conversation, "alice": scene.alice},
            )
            assert await scene.transaction(lambda db: outbox.claim(db, elsewhere[0], AWAY))
            claiming = asyncio.create_task(scene.transaction(lambda db: outbox.claim(db, notification, AWAY)))
            await scene.blocked(claiming)
        return await claiming

    claim = scene.runner.run(commit_once_the_claim_waits())

    assert claim is not None
    assert [message.body for message in claim.messages] == ["the first", "the late one"]


def test_of_two_claims_at_once_one_succeeds(scene: Scene) -> None:
    (notification,) = scene.write("hello")

    async def claim_twice() -> list[Claim | None]:
        async with database(scene.engine).begin() as db:
            first = await outbox.claim(db, notification, AWAY)
            claiming = asyncio.create_task(scene.transaction(lambda db: outbox.claim(db, notification, AWAY)))
            await scene.blocked(claiming)
        return [first, await claiming]

    first, second = scene.runner.run(claim_twice())

    assert first is not None
    assert second is None
    assert scene.row(notification, "attempts") == 1


@pytest.mark.parametrize(
    "gone",
    ["UPDATE participants SET read_seq = 1", "UPDATE messages SET removed_at = now(), body = ''"],
    ids=["read", "removed"],
)
def test_what_is_all_read_or_removed_is_not_sent(scene: Scene, gone: str) -> None:
    (notification,) = scene.write("hello")
    scene.postgres.execute(gone.encode())

    assert scene.claim(notification) is None
    assert scene.row(notification, "state, problem") == ("cancelled", "read or removed before it was sent")


def test_a_row_that_waits_says_why_and_until_when(scene: Scene) -> None:
    (notification,) = scene.write("hello")
    before = scene.now()

    assert scene.claim(notification, Presence(in_view=True, live_for=0)) is None

    assert scene.row(notification, "state, attempts, problem") == ("pending", 0, "a tab is in view")
    assert scene.is_after(scene.row(notification, "due_at"), 30, before)
    assert scene.claim(notification) is None
    scene.later(30)
    assert scene.claimed(notification)
    assert scene.row(notification, "problem") is None


def test_a_claimed_row_is_nobody_elses_until_its_lease_ends(scene: Scene) -> None:
    (notification,) = scene.write("hello")
    scene.claimed(notification)

    assert scene.claim(notification) is None
    assert scene.run(outbox.due) == []
    assert scene.run(lambda db: outbox.recipient(db, notification)) is None
    scene.run(lambda db: outbox.postpone(db, notification, "not due"))
    scene.run(lambda db: outbox.cancel(db, notification, "not due"))
    assert scene.row(notification, "state, problem") == ("sending", None)

    scene.later(20)
    assert scene.claimed(notification).attempts == 2


def test_a_claim_whose_lease_has_ended_changes_nothing_any_more(scene: Scene) -> None:
    (first,) = scene.write("hello")
    scene.sent(first, card_id=1)
    scene.later(61)
    (notification,) = scene.write("hello again")
    late = scene.claimed(notification)
    scene.later(20)
    scene.claimed(notification)
    now = scene.row(notification, "state, due_at, attempts")

    assert scene.run(lambda db: outbox.mark_sent(db, late, 2)) == []
    for error in (BLIP, TelegramError("gone", permanent=True), TelegramError("pause", retry_after=60)):
        scene.run(lambda db, error=error: outbox.mark_refused(db, late, error))  # type: ignore[misc]

    assert scene.row(notification, "state, due_at, attempts") == now


def test_a_row_that_was_cancelled_while_it_was_sent_stays_cancelled(scene: Scene) -> None:
    (notification,) = scene.write("hello")
    claim = scene.claimed(notification)
    scene.postgres.execute("UPDATE notifications SET state = 'cancelled'")

    assert scene.run(lambda db: outbox.mark_sent(db, claim, 1)) == []
    scene.run(lambda db: outbox.mark_refused(db, claim, BLIP))

    assert scene.row(notification, "state, card_id, problem") == ("cancelled", None, None)


def test_of_two_that_are_claimed_at_one_moment_one_is_marked(scene: Scene) -> None:
    (one,) = scene.write("hello")
    (other,) = scene.write("hello", conversation=scene.begin(scene.alice, scene.user("dora")))

    async def claim_both() -> Claim | None:
        async with database(scene.engine).begin() as db:
            claim = await outbox.claim(db, one, AWAY)
            await outbox.claim(db, other, AWAY)
        return claim

    claim = scene.runner.run(claim_both())
    assert claim is not None
    assert scene.row(other, "due_at") == claim.lease
    scene.run(lambda db: outbox.mark_sent(db, claim, 1))

    assert (scene.row(one), scene.row(other)) == ("sent", "sending")


def test_while_one_is_sent_the_next_of_its_conversation_waits(scene: Scene) -> None:
    (first,) = scene.write("one")
    claim = scene.claimed(first)
    (second,) = scene.write("two")
    dora = scene.user("dora")
    (hers,) = scene.write("to dora", conversation=scene.begin(scene.alice, dora))
    (in_another,) = scene.write("from dora", author=dora, conversation=scene.begin(scene.bob, dora))
    before = scene.now()

    assert scene.claim(second) is None
    assert scene.row(second, "state, problem") == ("pending", "an earlier one of the conversation is being sent")
    assert scene.is_after(scene.row(second, "due_at"), 1, before)
    assert scene.claimed(hers)
    assert scene.claimed(in_another)

    scene.run(lambda db: outbox.mark_sent(db, claim, 1))
    scene.later(3)
    assert scene.claimed(second)


def test_a_burst_is_one_card_that_is_edited_at_a_pace(scene: Scene) -> None:
    (first,) = scene.write("one")
    before = scene.now()
    scene.sent(first, card_id=41)
    (second,) = scene.write("two")
    assert scene.write("three") == [second]

    assert scene.claim(second) is None
    assert scene.row(second, "problem") == "the user was told a moment ago"
    assert scene.is_after(scene.row(second, "due_at"), 3, before)
    scene.later(3)
    claim = scene.claimed(second)

    assert claim.card_id == 41
    assert [message.body for message in claim.messages] == ["one", "two", "three"]
    rang = scene.row(first, "card_at")
    assert scene.run(lambda db: outbox.mark_sent(db, claim, 41)) == []
    # An edit does not ring, and the row now stands for all that is on the card.
    assert scene.row(second, "state, card_id, card_at, first_seq, last_seq") == ("sent", 41, rang, 1, 3)


def test_what_is_on_the_card_already_is_not_sent_again(scene: Scene) -> None:
    (first,) = scene.write("one")
    claim = scene.claimed(first)
    (second,) = scene.write("two")
    scene.postgres.execute("UPDATE messages SET removed_at = now(), body = '' WHERE seq = 2")
    scene.run(lambda db: outbox.mark_sent(db, claim, 1))
    scene.later(3)

    assert scene.claim(second) is None
    assert scene.row(second, "state, problem") == ("cancelled", "sent already")


def test_a_card_that_is_a_minute_old_is_replaced(scene: Scene) -> None:
    (first,) = scene.write("one")
    scene.sent(first, card_id=41)
    scene.later(61)
    (second,) = scene.write("two")

    claim = scene.claimed(second)

    assert claim.card_id is None
    assert [message.body for message in claim.messages] == ["one", "two"]
    assert scene.run(lambda db: outbox.mark_sent(db, claim, 42)) == [41]
    assert scene.row(second, "first_seq, last_seq, card_id, card_at = told_at, problem") == (1, 2, 42, True, None)


def test_a_card_that_was_read_is_neither_edited_nor_repeated(scene: Scene) -> None:
    (first,) = scene.write("one")
    scene.sent(first, card_id=41)
    scene.postgres.execute("UPDATE participants SET read_seq = 1 WHERE user_id = %s", [scene.bob])
    (second,) = scene.write("two")

    claim = scene.claimed(second)

    assert claim.card_id is None
    assert [message.body for message in claim.messages] == ["two"]
    assert scene.run(lambda db: outbox.mark_sent(db, claim, 42)) == [41]


def test_a_new_card_replaces_those_that_telegram_still_deletes(scene: Scene) -> None:
    cards = {}
    for card_id, hours in ((1, 48), (2, 47), (3, 46), (4, 1)):
        (notification,) = scene.write("hello")
        scene.sent(notification, card_id)
        cards[notification] = hours
        scene.later(61)
    for notification, hours in cards.items():
        age = timedelta(hours=hours)
        scene.postgres.execute("UPDATE notifications SET card_at = now() - %s WHERE id = %s", [age, notification])
    (newest,) = scene.write("hello")
    claim = scene.claimed(newest)

    assert sorted(scene.run(lambda db: outbox.mark_sent(db, claim, 5))) == [3, 4]

    scene.run(lambda db: outbox.mark_deleted(db, claim, 3))
    left = scene.postgres.execute("SELECT card_id FROM notifications ORDER BY id").fetchall()
    assert left == [(1,), (2,), (None,), (4,), (5,)]


def test_an_edit_deletes_no_card_and_a_card_of_two_rows_is_deleted_once(scene: Scene) -> None:
    (oldest,) = scene.write("one")
    scene.sent(oldest, card_id=1)
    scene.later(61)
    for body in ("two", "three"):
        (notification,) = scene.write(body)
        claim = scene.claimed(notification)
        deleted = scene.run(lambda db, claim=claim: outbox.mark_sent(db, claim, 2))  # type: ignore[misc]
        assert deleted == ([1] if body == "two" else [])
        scene.later(3)
    scene.later(61)
    (newest,) = scene.write("four")
    claim = scene.claimed(newest)

    assert sorted(scene.run(lambda db: outbox.mark_sent(db, claim, 3))) == [1, 2]


def test_five_older_cards_are_deleted_at_most(scene: Scene) -> None:
    for card_id in range(1, 8):
        (notification,) = scene.write("hello")
        scene.sent(notification, card_id)
        scene.later(61)
    (newest,) = scene.write("hello")
    claim = scene.claimed(newest)

    assert len(scene.run(lambda db: outbox.mark_sent(db, claim, 8))) == 5


def test_a_card_in_another_conversation_is_left_alone(scene: Scene) -> None:
    dora = scene.user("dora")
    (of_dora,) = scene.write("from dora", author=dora, conversation=scene.begin(scene.bob, dora))
    (to_dora,) = scene.write("to dora", conversation=scene.begin(scene.alice, dora))
    scene.sent(of_dora, card_id=1)
    scene.sent(to_dora, card_id=2)
    (notification,) = scene.write("hello")

    claim = scene.claimed(notification)

    assert claim.card_id is None
    assert [message.body for message in claim.messages] == ["hello"]
    assert scene.run(lambda db: outbox.mark_sent(db, claim, 3)) == []


def test_a_card_of_another_participant_is_left_alone(scene: Scene) -> None:
    dora = scene.user("dora")
    chat = scene.begin(scene.alice, scene.bob, dora)
    of = {scene.row(id, "user_id"): id for id in scene.write("one", conversation=chat)}
    hers = scene.claimed(of[dora])

    claim = scene.claimed(of[scene.bob])

    assert claim.user_id == scene.bob
    scene.run(lambda db: outbox.mark_sent(db, hers, 1))
    assert scene.run(lambda db: outbox.mark_sent(db, claim, 2)) == []
    scene.later(61)
    anew = {scene.row(id, "user_id"): id for id in scene.write("two", conversation=chat)}
    claim = scene.claimed(anew[scene.bob])
    assert scene.run(lambda db: outbox.mark_sent(db, claim, 3)) == [2]
    scene.run(lambda db: outbox.mark_deleted(db, claim, 1))
    assert scene.row(of[dora], "card_id") == 1


def test_of_several_cards_the_newest_is_edited(scene: Scene) -> None:
    for card_id in (41, 42):
        (notification,) = scene.write("hello")
        scene.sent(notification, card_id)  # and Telegram does not delete the first one
        scene.later(61 if card_id == 41 else 3)

    assert scene.claimed(*scene.write("hello")).card_id == 42


def test_what_was_on_a_card_that_is_gone_is_not_repeated(scene: Scene) -> None:
    (first,) = scene.write("one")
    claim = scene.sent(first, card_id=41)
    scene.run(lambda db: outbox.mark_deleted(db, claim, 41))
    (second,) = scene.write("two")

    assert [message.body for message in scene.claimed(second).messages] == ["two"]


def test_a_failed_try_is_repeated_later_and_later_up_to_eight_times(scene: Scene) -> None:
    (notification,) = scene.write("hello")
    for attempt, delay in enumerate([1, 2, 4, 8, 30, 120, 300], 1):
        claim = scene.claimed(notification)
        before = scene.now()
        assert claim.attempts == attempt
        scene.run(lambda db, claim=claim: outbox.mark_refused(db, claim, BLIP))  # type: ignore[misc]
        assert scene.row(notification, "state, attempts, problem") == ("sending", attempt, "Telegram says: no.")
        assert scene.is_after(scene.row(notification, "due_at"), delay, before)
        scene.later(300)
    last = scene.claimed(notification)
    scene.run(lambda db: outbox.mark_refused(db, last, BLIP))

    assert scene.row(notification, "state, attempts") == ("failed", 8)


def test_a_pause_that_telegram_demands_counts_as_no_try(scene: Scene) -> None:
    (notification,) = scene.write("hello")
    claim = scene.claimed(notification)
    before = scene.now()

    scene.run(lambda db: outbox.mark_refused(db, claim, TelegramError("pause", retry_after=7)))

    assert scene.row(notification, "state, attempts, problem") == ("sending", 0, "pause")
    assert scene.is_after(scene.row(notification, "due_at"), 7, before)


def test_a_permanent_refusal_fails_it_at_once(scene: Scene) -> None:
    (notification,) = scene.write("hello")
    claim = scene.claimed(notification)

    scene.run(lambda db: outbox.mark_refused(db, claim, TelegramError("blocked", permanent=True)))

    assert scene.row(notification, "state, problem") == ("failed", "blocked")


def test_what_killed_eight_workers_has_failed(scene: Scene) -> None:
    (notification,) = scene.write("hello")
    for _ in range(8):
        scene.claimed(notification)
        scene.later(20)

    assert scene.claim(notification) is None
    assert scene.row(notification, "state, problem") == ("failed", "its worker died at every try")


def test_a_paused_chat_is_sent_nothing(scene: Scene) -> None:
    (notification,) = scene.write("hello")
    dora = scene.user("dora")
    (hers,) = scene.write("to dora", conversation=scene.begin(scene.alice, dora))
    before = scene.now()

    scene.run(lambda db: outbox.pause(db, scene.chat_id, 60))

    assert scene.claim(notification) is None
    assert scene.row(notification, "state, problem") == ("pending", "Telegram demanded a pause")
    until = scene.value("SELECT telegram_not_before FROM users WHERE id = %s", scene.bob)
    assert scene.row(notification, "due_at") == until
    assert scene.is_after(until, 60, before)
    assert scene.claimed(hers)


def test_the_sweep_finds_what_is_due_the_longest_waiting_first(scene: Scene) -> None:
    dora, charlie = scene.user("dora"), scene.user("charlie")
    (bobs,) = scene.write("hello")
    (doras,) = scene.write("hello", conversation=scene.begin(scene.alice, dora))
    (charlies,) = scene.write("hello", conversation=scene.begin(scene.alice, charlie))
    scene.claimed(charlies)
    scene.later(21)  # its worker died
    scene.run(lambda db: outbox.cancel(db, doras, "why not"))
    scene.postgres.execute("UPDATE notifications SET due_at = now() - interval '1 hour' WHERE id = %s", [charlies])

    assert [due.id for due in scene.run(outbox.due)] == [charlies, bobs]
    assert [due.id for due in scene.run(lambda db: outbox.due(db, limit=1))] == [charlies]
    assert scene.row(doras, "state, problem") == ("cancelled", "why not")
    recipient = scene.run(lambda db: outbox.recipient(db, bobs))
    assert recipient == outbox.Recipient(scene.bob, scene.chat_id, None)


def test_a_postponed_row_is_due_in_a_moment(scene: Scene) -> None:
    (notification,) = scene.write("hello")
    (other,) = scene.write("hello", conversation=scene.begin(scene.alice, scene.user("dora")))
    before = scene.now()

    scene.run(lambda db: outbox.postpone(db, notification, "busy"))

    assert scene.row(notification, "state, problem") == ("pending", "busy")
    assert scene.row(other, "due_at <= now(), problem") == (True, None)
    assert scene.is_after(scene.row(notification, "due_at"), 1, before)


def test_what_was_finished_a_month_ago_is_forgotten_but_not_the_last_card(scene: Scene) -> None:
    scene.postgres.execute(
        """
        INSERT INTO notifications (user_id, conversation_id, first_seq, state, problem, card_id, due_at)
        SELECT %s, %s, 1, state, problem, card_id, now() - days * interval '1 day'
        FROM (VALUES
            ('cancelled', 'old', NULL, 31), ('failed', 'old', NULL, 31), ('sent', 'old', 5, 31),
            ('sending', 'being sent', NULL, 31), ('pending', 'pending', NULL, 31),
            ('cancelled', 'young', NULL, 29), ('sent', 'last card', 6, 31)
        ) AS rows (state, problem, card_id, days)
        """,
        [scene.bob, scene.conversation],
    )

    elsewhere = scene.begin(scene.bob, scene.user("dora"))
    for user, conversation in ((scene.alice, scene.conversation), (scene.bob, elsewhere)):
        scene.postgres.execute(
            "INSERT INTO notifications (user_id, conversation_id, first_seq, state, problem, card_id, due_at)"
            " VALUES (%s, %s, 1, 'sent', 'last card too', 7, now() - interval '31 days')",
            [user, conversation],
        )

    assert scene.run(lambda db: outbox.forget_old(db, limit=2)) == 2
    assert scene.run(outbox.forget_old) == 1
    assert scene.run(outbox.forget_old) == 0

    left = scene.postgres.execute("SELECT problem FROM notifications ORDER BY id").fetchall()
    assert left == [("being sent",), ("pending",), ("young",), ("last card",), *[("last card too",)] * 2]


def test_the_age_is_that_of_the_row_which_is_due_first(scene: Scene) -> None:
    assert scene.run(outbox.age) == 0
    (first,) = scene.write("hello")
    (second,) = scene.write("hello", conversation=scene.begin(scene.alice, scene.user("dora")))
    (done,) = scene.write("hello", conversation=scene.begin(scene.alice, scene.user("erin")))
    scene.run(lambda db: outbox.cancel(db, done, "why not"))
    waiting = "UPDATE notifications SET due_at = now() - make_interval(secs => %s) WHERE id = %s"
    for seconds, notification in ((500, first), (50, second), (5000, done)):
        scene.postgres.execute(waiting, [seconds, notification])

    assert 500 <= scene.run(outbox.age) < 1000
    scene.postgres.execute("UPDATE notifications SET due_at = now() + interval '1 hour' WHERE state = 'pending'")
    assert scene.run(outbox.age) == 0
