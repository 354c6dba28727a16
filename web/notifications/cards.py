"""What Telegram shows: texts in its own subset of HTML, escaped like any page."""

from collections.abc import Sequence
from functools import cache
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader

from web.templates import TEMPLATES

BODY = 300
"""Characters of a message that a card shows."""
ROOM = 3500
"""What the messages of a card may take up; Telegram refuses a text of more than 4,096, tags not counted."""


def knock(site_url: str, author: str, bodies: Sequence[str], earlier: int) -> str:
    """Who wrote, the messages, and where to read them; `earlier` is how many come before `bodies`."""
    shown = _fitting([_shortened(body) for body in bodies])
    return _render(
        "notifications/card.html",
        author=author,
        bodies=shown,
        earlier=earlier + len(bodies) - len(shown),
        address=f"{site_url}/chat/{quote(author)}",
    )


def test(username: str) -> str:
    return _render("notifications/test.html", username=username)


def _shortened(body: str) -> str:
    body = body.strip()
    return body if len(body) <= BODY else body[: BODY - 1].rstrip() + "…"


def _fitting(bodies: Sequence[str]) -> list[str]:
    """The newest of them that there is room for."""
    shown: list[str] = []
    room = ROOM
    for body in reversed(bodies):
        room -= _length(body) + 2
        if room < 0 and shown:
            break
        shown.insert(0, body)
    return shown


def _length(text: str) -> int:
    """As Telegram counts, in UTF-16 code units: https://core.telegram.org/api/entities#entity-length"""
    return len(text.encode("utf-16-le", errors="surrogatepass")) // 2


def _render(template: str, **context: object) -> str:
    return _templates().get_template(template).render(context)


@cache
def _templates() -> Environment:
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
