"""The rules on an occasion, each with the one thing changed that it looks at."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from web.data.models import NotificationState
from web.live import presence
from web.live.presence import Presence
from web.notifications import rules
from web.notifications.rules import Candidate, Card, End, Occasion, Unread, Wait

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ROW = Candidate(
    id=1,
    user_id=2,
    conversation_id=3,
    first_seq=4,
    attempts=0,
    chat_id=7001,
    token=0,
    is_wanted=True,
    not_before=None,
    read_seq=3,
    is_muted=False,
    pushed_seq=0,
    pushed_at=None,
    now=NOW,
)
FREE = Occasion(
    row=ROW,
    chat="alice",
    title="Alice",
    card=None,
    first_seq=4,
    unread=[Unread(seq=4, author="alice", body="hello", earlier=0)],
    earlier_is_sending=False,
    presence=presence.AWAY,
)
"""Nothing is in the way."""


def row(**changes: object) -> Occasion:
    return replace(FREE, row=replace(ROW, **changes))  # type: ignore[arg-type]


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def card(sent: float, rang: float = 0, last_seq: int = 3) -> Occasion:
    """With a card that was sent, and rang, so many seconds ago."""
    shown = Card(card_id=5, card_at=NOW - seconds(rang), sent_at=NOW - seconds(sent), first_seq=3, last_seq=last_seq)
    return replace(FREE, card=shown)


def tabs(in_view: bool = False, live_for: float = 0, token: int = 0) -> Occasion:
    return replace(row(token=token), presence=Presence(in_view, live_for))


@pytest.mark.parametrize(
    "occasion",
    [
        FREE,
        row(token=1),
        row(attempts=7),
        row(not_before=NOW),
        row(not_before=NOW - seconds(1)),
        card(sent=3),
        tabs(live_for=100, token=0),
    ],
)
def test_it_is_sent_now(occasion: Occasion) -> None:
    assert rules.objection(occasion) is None


@pytest.mark.parametrize(
    ("occasion", "delay", "why"),
    [
        (tabs(live_for=90, token=1), 91, "the user is not away"),
        (tabs(in_view=True), 30, "a tab is in view"),
        (tabs(in_view=True, token=1), 30, "a tab is in view"),
        (row(not_before=NOW + seconds(7)), 7, "Telegram demanded a pause"),
        (replace(FREE, earlier_is_sending=True), 1, "an earlier one of the conversation is being sent"),
        (card(sent=0), 3, "the user was told a moment ago"),
        (card(sent=2.5), 0.5, "the user was told a moment ago"),
    ],
)
def test_it_waits(occasion: Occasion, delay: float, why: str) -> None:
    assert rules.objection(occasion) == Wait(NOW + seconds(delay), why)


@pytest.mark.parametrize(
    ("occasion", "state", "why"),
    [
        (
            row(is_wanted=False, chat_id=None),
            "cancelled",
            "no Telegram account is linked, or logged in before it was sent",
        ),
        (row(is_wanted=False, token=1), "cancelled", "logged in before it was sent"),
        (replace(FREE, unread=[]), "cancelled", "read or removed before it was sent"),
        (card(sent=60, last_seq=4), "cancelled", "sent already"),
        (row(attempts=8), "failed", "its worker died at every try"),
        (row(attempts=9), "failed", "its worker died at every try"),
    ],
)
def test_it_ends(occasion: Occasion, state: str, why: str) -> None:
    assert rules.objection(occasion) == End(NotificationState(state), why)


def test_what_ends_it_counts_before_what_lets_it_wait() -> None:
    unwanted = replace(tabs(in_view=True, token=1), earlier_is_sending=True, unread=[])

    assert isinstance(rules.objection(unwanted), End)


@pytest.mark.parametrize(("rang", "is_edited"), [(0, True), (59, True), (60, False), (61, False)])
def test_a_card_is_edited_for_a_minute_after_it_rang(rang: float, is_edited: bool) -> None:
    occasion = card(sent=3, rang=rang)

    assert (occasion.live_card is not None) == is_edited
    assert FREE.live_card is None
