"""Sending: one notification's way through the real aiogram, and what Telegram's answers do to it."""

import time
from dataclasses import replace
from typing import Any

import pytest
import redis

from tests.notifications.office import SITE_URL, Office


def test_it_is_sent_and_marked(office: Office) -> None:
    (notification,) = office.scene.write("Are you there?")

    office.send(notification)

    (card,) = office.shown()
    assert card.startswith("<b>alice</b> wrote:\nAre you there?\n")
    assert f'<a href="{SITE_URL}/chat/alice">' in card
    (card_id,) = office.telegram.cards[office.scene.chat_id]
    assert office.scene.row(notification, "state, attempts, card_id") == ("sent", 1, card_id)


def test_twenty_tasks_for_it_send_it_once(office: Office) -> None:
    (notification,) = office.scene.write("hello")

    office.send(*[notification] * 20)

    assert office.methods() == ["sendMessage"]
    assert office.scene.row(notification, "state, attempts") == ("sent", 1)


def test_a_young_card_is_edited(office: Office) -> None:
    office.send(*office.scene.write("the first"))
    office.scene.later(3)

    office.send(*office.scene.write("the second"))

    (card,) = office.shown()
    assert "the first\n\nthe second" in card
    assert office.methods() == ["sendMessage", "editMessageText"]


def test_a_card_that_is_a_minute_old_is_sent_anew_so_that_the_phone_rings(office: Office) -> None:
    office.send(*office.scene.write("the first"))
    office.scene.later(61)
    (second,) = office.scene.write("the second")

    office.send(second)

    (card,) = office.shown()
    assert "the first\n\nthe second" in card
    assert office.methods() == ["sendMessage", "sendMessage", "deleteMessage"]
    (card_id,) = office.telegram.cards[office.scene.chat_id]
    cards = office.scene.postgres.execute("SELECT card_id FROM notifications ORDER BY id").fetchall()
    assert cards == [(None,), (card_id,)]


def test_a_card_that_was_swiped_away_is_sent_again(office: Office) -> None:
    office.send(*office.scene.write("the first"))
    office.telegram.cards.clear()
    office.scene.later(3)

    office.send(*office.scene.write("the second"))

    (card,) = office.shown()
    assert "the first\n\nthe second" in card


def test_an_old_card_that_telegram_does_not_delete_now_is_deleted_with_the_next(office: Office) -> None:
    office.send(*office.scene.write("the first"))
    for number in range(2):
        office.scene.later(61)
        if number == 0:
            office.telegram.order({"html": 502}, method="deleteMessage")
        office.send(*office.scene.write(f"again {number}"))

    assert office.methods().count("deleteMessage") == 3
    assert len(office.shown()) == 1


@pytest.mark.parametrize(
    ("status", "description"),
    [
        (403, "Forbidden: bot was blocked by the user"),
        (403, "Forbidden: user is deactivated"),
        (400, "Bad Request: chat not found"),
    ],
)
def test_who_blocked_the_bot_is_unlinked_after_one_call(office: Office, status: int, description: str) -> None:
    scene = office.scene
    dora = scene.user("dora")
    office.telegram.refuse(status, description, times=0)
    (notification,) = scene.write("hello")
    (second,) = scene.write("hello too", author=dora, conversation=scene.begin(dora, scene.bob))

    office.send(notification)
    office.send(second)

    assert office.methods() == ["sendMessage"]
    assert scene.row(notification) == "failed"
    assert scene.row(second) == "cancelled"
    chat_id, problem = scene.value("SELECT telegram_chat_id, telegram_problem FROM users WHERE id = %s", scene.bob)
    assert chat_id is None
    assert problem == f"Telegram says: {description.partition(': ')[2]}."


@pytest.mark.parametrize(
    "garbage", [{"html": 502}, {"status": 500, "description": "Internal Server Error"}, {"html": 200}]
)
def test_after_an_answer_that_makes_no_sense_it_is_tried_again(office: Office, garbage: dict[str, Any]) -> None:
    office.telegram.order(garbage)
    (notification,) = office.scene.write("hello")

    office.send(notification)
    assert office.scene.row(notification, "state, attempts") == ("sending", 1)
    office.send(notification)
    assert len(office.methods()) == 1  # it is not due yet
    office.scene.later(1)
    office.send(notification)

    assert office.scene.row(notification, "state, attempts, problem") == ("sent", 2, None)
    assert len(office.shown()) == 1


def test_a_pause_that_telegram_demands_is_for_all_cards_of_the_chat(office: Office) -> None:
    scene = office.scene
    dora = scene.user("dora")
    office.telegram.order({"retry_after": 4})
    (notification,) = scene.write("hello")
    (second,) = scene.write("hello too", author=dora, conversation=scene.begin(dora, scene.bob))

    office.send(notification)
    office.send(second)

    assert [call.status for call in office.telegram.called()] == [429]
    assert scene.row(notification, "state, attempts") == ("sending", 0)
    assert scene.row(second, "state, problem") == ("pending", "Telegram demanded a pause")
    pauses = scene.postgres.execute("SELECT extract(epoch FROM due_at - now()) FROM notifications").fetchall()
    assert all(3 < pause <= 4 for (pause,) in pauses)


def test_calls_to_one_chat_come_one_after_the_other(office: Office) -> None:
    """So what the first one is refused for is known before the second."""
    scene = office.scene
    dora = scene.user("dora")
    office.telegram.refuse(403, "Forbidden: bot was blocked by the user", times=0)
    (notification,) = scene.write("hello")
    (second,) = scene.write("hello too", author=dora, conversation=scene.begin(dora, scene.bob))

    office.send(notification, second)

    assert office.methods() == ["sendMessage"]


def test_what_finds_its_chat_busy_is_postponed(office: Office) -> None:
    scene = office.scene
    dora = scene.user("dora")
    office.telegram.order({"hang": 1.3})
    (notification,) = scene.write("hello")
    (second,) = scene.write("hello too", author=dora, conversation=scene.begin(dora, scene.bob))

    office.send(notification, second)

    postponed = scene.postgres.execute("SELECT problem FROM notifications WHERE state = 'pending'").fetchall()
    assert postponed == [("another one is being sent to this chat",)]


def test_while_telegram_is_off_it_is_cancelled(office: Office) -> None:
    (notification,) = office.scene.write("hello")

    office.run(replace(office.sender, bot=None).send(notification))

    assert office.methods() == []
    assert office.scene.row(notification) == "cancelled"


def test_with_a_tab_in_view_it_waits(office: Office, valkey: redis.Redis) -> None:
    (notification,) = office.scene.write("hello")
    view = f"view:{office.scene.bob}"
    valkey.zadd(view, {"a process": time.time() + 60})

    office.send(notification)

    assert office.methods() == []
    assert office.scene.row(notification, "state, problem") == ("pending", "a tab is in view")
    valkey.delete(view)
    office.scene.later(30)
    office.send(notification)
    assert office.scene.row(notification) == "sent"
