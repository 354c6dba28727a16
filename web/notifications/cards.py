"""What Telegram shows: texts in its own subset of HTML, escaped like any page."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader

from web.notifications.rules import Unread
from web.templates import TEMPLATES

BODY = 300
"""Characters of a message that a card shows."""
ROOM = 3500
"""What the messages of a card may take up. Telegram refuses a text of more than 4,096, not counting tags."""


def knock(site_url: str, chat: str, messages: Sequence[Unread]) -> str:
    """The messages, who wrote them, and where to read them. `chat` is what their reader calls the conversation."""
    shown = _fitting([replace(message, body=_shortened(message.body)) for message in messages])
    return _render(
        "notifications/card.html",
        messages=shown,
        earlier=shown[0].earlier,
        # With two people in a chat it is called by the author's name, and the earlier messages are theirs too.
        is_from_one=shown[0].author == chat,
        address=f"{site_url}/chat/{quote(chat)}",
    )


def test(username: str) -> str:
    return _render("notifications/test.html", username=username)


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


def _render(template: str, **context: object) -> str:
    return _templates().get_template(template).render(context)


@cache
def _templates() -> Environment:
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
