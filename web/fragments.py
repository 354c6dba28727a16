"""Templates: whole pages, and the fragments that a swap puts into one.

A fragment is a macro of a file that begins with an underscore, so that a page includes it and the socket calls it
directly. Every template ends in `.html`, which is what switches escaping on. A message's HTML comes from its macro too,
through a stencil, which is cut from it once.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, MutableMapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from jinja2.runtime import Macro
from linkify_it import LinkifyIt
from markupsafe import Markup, escape

from web.chats import Entry
from web.conversations import Pair

ROOT = Path(__file__).parent.parent
HTMX = ROOT / "node_modules" / "htmx.org" / "dist"
STATIC = ROOT / "static"

_links = LinkifyIt().add("ftp:", None).add("//", None)
# To see that there is no link, the finder takes longer than all else that is done with a message.
_may_have_links = re.compile(r"://|@|\.\w").search


def page(name: str, **context: object) -> str:
    """A template as text."""
    return environment.get_template(name).render(context)


def message(pair: Pair, seq: int, version: int, author_id: int, nonce: str, body: str, created_at: datetime) -> Markup:
    """A message, the same for both participants."""
    return _stencil("_message.html", "message").fill(
        conversation=pair.id,
        seq=seq,
        version=version,
        author=escape(pair.person(author_id).username),
        side=pair.side(author_id),
        nonce=escape(nonce),
        body=linkify(body),
        created_at=_time(created_at),
    )


def message_swap(pair: Pair, html: str) -> str:
    """The instruction that puts messages where they belong: in the order of `seq`, each one once."""
    return f'<hx-upsert hx-target="#messages-{pair.id}" key="data-seq" sort>{html}</hx-upsert>'


def chats_swap(entries: Iterable[Entry]) -> str:
    """The instruction that puts chats where they belong in the list: the newest first."""
    html = "".join(map(_macro("_entry.html", "entry"), entries))
    return f'<hx-upsert hx-target="#chats" key="data-order" sort="desc">{html}</hx-upsert>'


def refusal(nonce: str, reason: str, retry: bool) -> str:
    """The answer to a send that was refused."""
    return _macro("_refusal.html", "refusal")(nonce, reason, retry)


def typing(pair: Pair, author_id: int) -> str:
    """Somebody is typing; the style lets it fade by itself."""
    return _macro("_typing.html", "typing")(pair.id, pair.person(author_id).username)


def source(name: str) -> str:
    """The text of a template file."""
    return (ROOT / "templates" / name).read_text()


def linkify(text: str) -> Markup:
    """The text with its http and https addresses and mail addresses as links; everything is escaped."""
    return _linkified(text) if _may_have_links(text) else escape(text)


@lru_cache(4096)
def _linkified(text: str) -> Markup:
    found = _links.match(text)
    if not found:
        return escape(text)
    pieces = []
    end = 0
    for link in found:
        pieces.append(escape(text[end : link.index]))
        anchor = Markup('<a href="{}" target="_blank" rel="noopener noreferrer nofollow">{}</a>')
        pieces.append(anchor.format(link.url, link.raw))
        end = link.last_index
    pieces.append(escape(text[end:]))
    return Markup("").join(pieces)


@cache
def asset(path: str) -> str:
    """The address of a file that browsers may keep for ever: another content is another address."""
    file = HTMX / path.removeprefix("htmx/") if path.startswith("htmx/") else STATIC / path
    return f"/static/{path}?v={hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"


# The messages of one transaction have one moment, and each of them is shown three times.
@lru_cache(256)
def _time(moment: datetime) -> Markup:
    """A moment in UTC, which stands there until the page knows the reader's own time zone."""
    there = moment.astimezone(UTC)
    return _macro("_time.html", "time")(there.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), there.strftime("%-d %b %Y, %H:%M UTC"))


@lru_cache(4096)
def _avatar(username: str) -> Markup:
    """An initial in one of eight colours, always the same for a name."""
    return _macro("_avatar.html", "avatar")(username, sum(username.lower().encode()) % 8)


@cache
def _macro(template: str, name: str) -> Callable[..., Markup]:
    return cast(Callable[..., Markup], getattr(environment.get_template(template).module, name))


class _Stencil:
    """A macro that only puts its arguments where they belong, and so can be cut once and filled many times.

    A message takes a third of the time that its macro takes.
    """

    def __init__(self, template: str, name: str) -> None:
        macro = _macro(template, name)
        # The marks are ours, and no template has a NUL.
        holes = {argument: Markup(f"\0{argument}\0") for argument in cast(Macro, macro).arguments}  # noqa: S704
        text = macro(**holes).replace("%", "%%")
        for argument, hole in holes.items():
            text = text.replace(hole, f"%({argument})s")
        self._text = str(text)

    def fill(self, **values: int | Markup) -> Markup:
        """The macro's text for these values, none of which is escaped any more: a number needs it not, Markup is."""
        return Markup(self._text % values)  # noqa: S704


_stencil = cache(_Stencil)


class _Environment(Environment):
    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        """One plain dict: to walk Jinja's chain of them for every included template took a quarter of a page's time."""
        return {**self.globals, **(d or {})}


def _make_environment() -> Environment:
    made = _Environment(
        loader=FileSystemLoader(ROOT / "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(asset=asset, time=_time, avatar=_avatar)
    return made


environment = _make_environment()
