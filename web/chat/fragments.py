"""The HTML of messages and chats, and the swaps that put it into open pages.

Every function returns text that begins with `<`, which htmx needs to tell a swap from control data.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from markupsafe import Markup

from web import templates
from web.chat import formatting
from web.chat.conversations import Conversation, Message
from web.chat.lists import Entry

Html = TypeVar("Html", bound=str)

PAGE_BYTES = 512 * 1024
"""What the messages of a page, or of one answer to a page, take at most."""
HELD = Markup("<!--held by ")
"""Begins a held message in a cached list. No body contains it, since its `<` is escaped."""
PLACES = 8
"""Styles that tell the authors of neighbouring messages apart; app.css has as many."""


def message(conversation: Conversation, it: Message) -> Markup:
    """A message, the same for every participant."""
    place = conversation.place(it.author_id)
    html, is_plain = formatting.formatted(it.body)
    # Arguments, and not the message itself: Jinja takes long to look up an attribute.
    return templates.macro("chat/_message.html", "message")(
        conversation.id,
        it.seq,
        it.version,
        conversation.people[place].username,
        place % PLACES,
        it.nonce,
        html,
        "" if is_plain else it.body,
        formatting.is_large(it.body),
        templates.time(it.created_at),
        it.edited_at is not None,
        it.removed_at is not None,
        _quote(conversation, it) if it.reply_to else "",
        _reactions(conversation, it.reactions) if it.reactions else "",
    )


def _quote(conversation: Conversation, it: Message) -> Markup:
    """What a message answers, as that is now: its author and first line, none if it was removed."""
    assert it.quoted_author_id is not None
    author = conversation.person(it.quoted_author_id).username
    line = it.quoted_body.partition("\n")[0] if it.quoted_body is not None else None
    return templates.macro("chat/_message.html", "quote")(it.reply_to, author, line, it.quoted_edited_at is not None)


def _reactions(conversation: Conversation, reactions: Iterable[tuple[str, int]]) -> Markup:
    """Each emoji once, with the names of those who gave it."""
    groups: dict[str, list[str]] = defaultdict(list)
    for emoji, user_id in reactions:
        groups[emoji].append(conversation.person(user_id).username)
    return templates.macro("chat/_message.html", "reactions")(groups.items())


def with_mine(html: Markup, username: str) -> Markup:
    """The messages with those of `username` marked as the reader's own, which app.js does for those that arrive later.

    Cached HTML is the same for everybody. A body cannot contain the attribute, since its quotes are escaped.
    """
    author = Markup('data-author="{}"').format(username)
    return html.replace(author, author + Markup(" data-mine"))


def listed(it: Message, html: Markup) -> Markup:
    """A message in a cached list, which all participants share: whose it is if it is held."""
    return Markup("{}{}-->").format(HELD, it.author_id) + html if it.held else html


def seen_by(user_id: int, html: Markup) -> Markup | None:
    """A cached list as this user may see it; None if something in it is held from them."""
    if HELD not in html:
        return html
    theirs = html.replace(f"{HELD}{user_id}-->", "")
    return None if HELD in theirs else theirs


def fitting(messages: Iterable[Html]) -> list[Html]:
    """The messages from the first on that fit into PAGE_BYTES, and at least one."""
    kept: list[Html] = []
    size = 0
    for html in messages:
        size += len(html.encode())
        if kept and size > PAGE_BYTES:
            break
        kept.append(html)
    return kept


def message_swap(conversation: Conversation, html: str) -> str:
    """Puts messages in the order of `seq`, each one once."""
    return f'<hx-upsert hx-target="{conversation.target("messages")}" key="data-seq" sort>{html}</hx-upsert>'


def chats_swap(entries: Iterable[Entry]) -> str:
    """Puts chats in their places in the list, newest first."""
    html = "".join(map(templates.macro("chat/_entry.html", "entry"), entries))
    return f'<hx-upsert hx-target="#chats" key="data-order" sort="desc">{html}</hx-upsert>'


def gone_swap(conversation: Conversation) -> str:
    """Takes a chat out of the list."""
    return f'<hx-partial hx-target="#chat-{conversation.id}" hx-swap="delete"></hx-partial>'


def refusal(nonce: str, reason: str, retry: bool) -> str:
    """The answer to a send that was refused."""
    return templates.macro("chat/_refusal.html", "refusal")(nonce, reason, retry)


def presence(people: Iterable[tuple[int, str, datetime | None, bool]]) -> str:
    """Says of each of these people whether they are online, or when they last were."""
    html = "".join(templates.macro("chat/_presence.html", "presence")(*seen) for seen in people)
    return f'<hx-upsert hx-target="#presence">{html}</hx-upsert>'


def typing(conversation: Conversation, author_id: int) -> str:
    """Somebody is typing; CSS fades it out."""
    shown = conversation.person(author_id).shown
    return templates.macro("chat/_typing.html", "typing")(conversation.target("typing"), conversation.id, shown)


def release() -> str:
    """A digest of everything that decides what a message's HTML is: cached lists of another release are not shown."""
    sources = [Path(__file__), Path(formatting.__file__), Path(templates.__file__)]
    sources += [templates.TEMPLATES / name for name in ("chat/_message.html", "_time.html")]
    digest = hashlib.sha256((version("linkify-it-py") + version("markdown-it-py")).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:8]
