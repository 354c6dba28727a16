"""What Telegram shows: texts in its own subset of HTML, escaped like any page."""

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote

from web import templates
from web.notifications.rules import Unread

BODY = 300
"""Characters of a message that a card shows."""
ROOM = 3500
"""What the messages of a card may take up. Telegram refuses a text of more than 4,096, not counting tags."""


def knock(site_url: str, chat: str, messages: Sequence[Unread]) -> str:
    """The messages, who wrote them, and where to read them. `chat` is what their reader calls the conversation."""
    shown = _fitting([replace(message, body=_shortened(message.body)) for message in messages])
    return templates.page(
        "notifications/card.html",
        messages=shown,
        earlier=shown[0].earlier,
        # With two people in a chat it is called by the author's name, and the earlier messages are theirs too.
        is_from_one="," not in chat,
        address=f"{site_url}/chat/{quote(chat)}",
    )


def over(chat: str, *, is_read: bool) -> str:
    """For a card that is too old to be deleted, and whose messages were all read, or else removed."""
    return templates.page("notifications/over.html", chat=chat, is_read=is_read)


def test(username: str) -> str:
    return templates.page("notifications/test.html", username=username)


def _shortened(body: str) -> str:
    body = body.strip()
    return body if len(body) <= BODY else body[: BODY - 1].rstrip() + "…"


def _fitting(messages: Sequence[Unread]) -> list[Unread]:
    """The newest messages for which there is room, at least one."""
    shown: list[Unread] = []
    room = ROOM
    for message in reversed(messages):
        room -= _length(message.body) + 2
        if shown and message.author != shown[0].author:
            room -= _length(f"{shown[0].author} wrote:\n")
        if room < 0 and shown:
            break
        shown.insert(0, message)
    return shown


def _length(text: str) -> int:
    """In UTF-16 code units, as Telegram counts: https://core.telegram.org/api/entities#entity-length"""
    return len(text.encode("utf-16-le", errors="surrogatepass")) // 2
