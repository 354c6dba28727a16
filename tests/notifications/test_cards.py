"""What a card shows."""

import html
import re

import pytest

from web.notifications import cards
from web.notifications.rules import Unread

LINK = '<a href="https://knock.example/chat/{0}">https://knock.example/chat/{0}</a>'


def knock(chat: str, *messages: tuple[str, str], earlier: int = 0) -> str:
    """A card of messages, each of an author and a body."""
    unread = [Unread(number, author, body, earlier + number) for number, (author, body) in enumerate(messages)]
    return cards.knock("https://knock.example", chat, unread)


def test_in_a_chat_of_two_it_names_the_author_once() -> None:
    assert knock("alice", ("alice", "hello"), ("alice", "are you there?"), earlier=3) == (
        f"<b>alice</b> wrote:\n… and 3 earlier\n\nhello\n\nare you there?\n\n{LINK.format('alice')}"
    )


def test_in_a_chat_of_several_it_names_the_author_of_each_run() -> None:
    card = knock("alice, dora", ("dora", "one"), ("dora", "two"), ("alice", "three"), ("dora", "four"), earlier=2)

    assert card == (
        "… and 2 earlier\n\n"
        "<b>dora</b> wrote:\none\n\ntwo\n\n<b>alice</b> wrote:\nthree\n\n<b>dora</b> wrote:\nfour\n\n"
        f"{LINK.format('alice%2C%20dora')}"
    )


def test_in_a_chat_of_several_the_earlier_ones_may_be_of_others() -> None:
    assert knock("alice, dora", ("dora", "hello"), earlier=1).startswith("… and 1 earlier\n\n<b>dora</b> wrote:\nhello")


def test_what_people_write_is_escaped_and_shortened() -> None:
    card = knock("alice", ("alice", " <b>not bold</b> & \"quoted\" 'so' "), ("alice", "x" * 301), ("alice", "y" * 300))

    assert "\n&lt;b&gt;not bold&lt;/b&gt; &amp; &#34;quoted&#34; &#39;so&#39;\n" in card
    assert f"\n{'x' * 299}…\n" in card
    assert f"\n{'y' * 300}\n" in card


@pytest.mark.parametrize("authors", [["a" * 32], ["a" * 32, "b" * 32]])
@pytest.mark.parametrize("body", ["🚪" * 400, "x" * 400, "x"])
def test_a_long_burst_fits_into_what_telegram_takes(authors: list[str], body: str) -> None:
    messages = [(authors[number % len(authors)], f"{number} {body}") for number in range(100)]

    card = knock(", ".join(authors), *messages)

    text = html.unescape(re.sub("<[^>]*>", "", card))
    assert len(text.encode("utf-16-le")) // 2 <= 4096
    shown = [int(number) for number in re.findall(r"^(\d+) ", text, re.MULTILINE)]
    assert shown == list(range(100 - len(shown), 100))
    assert len(shown) == 100 or f"… and {100 - len(shown)} earlier\n" in text


def test_one_message_is_shown_however_long() -> None:
    assert "earlier" not in knock("alice", ("alice", "🚪" * 300))
