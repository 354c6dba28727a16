"""Formatting: a message's text as HTML, with its links, `code`, *bold*, _italic_, blocks of code and quotes.

A Markdown parser finds these and nothing else; what is not formatting stays as typed, and nothing is ever HTML.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from emoji import emoji_count, purely_emoji
from linkify_it import LinkifyIt
from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline, emphasis
from markdown_it.rules_inline.state_inline import Scanned
from markupsafe import Markup, escape

LINKS = 50
"""Links in one message at most: the HTML of a link is many times as long as the shortest address."""
BLOCK = re.compile(
    r"\n?```(?:[\w+-]*\n)?(?P<code>.+?)\n?```\n?|\n?(?<![^\n])(?P<quote>> [^\n]*(?:\n> [^\n]*)*)\n?", re.DOTALL
)
BEFORE, AFTER = "([{\"'«“„*_", ")]}\"'»”.,;:!?…*_"
"""Besides spaces, what may come before and after what is marked; so may nothing."""
LINK = "\ue000{}\ue001"
"""Stands for a link while its text is parsed, so that no mark is found in it."""

# Both find next to nothing in most messages, and take long for that, so test cheaply first.
_may_have_links = re.compile(r"://|@|\.\w").search
_may_be_formatted = re.compile(r"[`*_]|^> ", re.MULTILINE).search
_stand_in = re.compile("\ue000(\\d+)\ue001")
_links = LinkifyIt().add("ftp:", None).add("//", None)


class _Words(StateInline):
    """Marks stand around words: neither snake_case nor 2*3*4 nor a face has any."""

    def scanDelims(self, start: int, canSplitWord: bool) -> Scanned:  # noqa: N802, N803, ARG002 - the parser's names
        found = super().scanDelims(start, False)
        before, after = self.src[:start][-1:], self.src[start + found.length :][:1]
        can_open = found.can_open and (before in BEFORE or before.isspace())
        return Scanned(can_open, found.can_close and (after in AFTER or after.isspace()), found.length)


def _emphasis(state: StateInline, silent: bool) -> bool:
    state.__class__ = _Words
    return emphasis.tokenize(state, silent)


_parser = MarkdownIt("zero").enable(["backticks", "emphasis"])
_parser.inline.ruler.at("emphasis", _emphasis)


class Formatted(NamedTuple):
    html: Markup
    is_plain: bool
    """Whether the text says everything that the HTML does."""


def formatted(text: str) -> Formatted:
    """The HTML of a message's text."""
    links = _found(text)
    if not _may_be_formatted(text) or "\ue000" in text:
        return Formatted(_linked(text, links), True)
    anchors = [_anchor(*link[2:]) for link in links]
    pieces, end = [], 0
    for number, (start, stop, *_) in enumerate(links):
        pieces += [text[end:start], LINK.format(number)]
        end = stop
    raw = [text[start:stop] for start, stop, *_ in links]
    html = Markup("").join(_blocks("".join([*pieces, text[end:]]), anchors, raw))
    return Formatted(html, html == _linked(text, links))


def is_large(text: str) -> bool:
    """Whether it is one, two or three emoji and nothing else."""
    # Their first characters come after all letters of most languages, and no emoji is longer than that.
    return text[:1] > "\u2190" and len(text) <= 36 and purely_emoji(text) and emoji_count(text) <= 3


def _found(text: str) -> list[tuple[int, int, str, str]]:
    """The http, https and mail addresses in it: where each begins and ends, its URL, its text."""
    found = _links.match(text) if _may_have_links(text) else None
    return [(link.index, link.last_index, link.url, link.raw) for link in (found or [])[:LINKS]]


def _anchor(url: str, raw: str) -> Markup:
    return Markup('<a href="{}" target="_blank" rel="noopener noreferrer nofollow">{}</a>').format(url, raw)


def _linked(text: str, links: list[tuple[int, int, str, str]]) -> Markup:
    if not links:
        return escape(text)
    pieces, end = [], 0
    for start, stop, url, raw in links:
        pieces += [escape(text[end:start]), _anchor(url, raw)]
        end = stop
    return Markup("").join([*pieces, escape(text[end:])])


def _blocks(text: str, anchors: list[Markup], raw: list[str]) -> Iterator[Markup]:
    end = 0
    for block in BLOCK.finditer(text):
        yield from _line(text[end : block.start()], anchors, raw)
        end = block.end()
        if block["code"] is not None:
            yield Markup("<pre><code>{}</code></pre>").format(_replaced(block["code"], raw))
        else:
            lines = re.sub("^> ", "", block["quote"], flags=re.MULTILINE)
            quoted = Markup("").join(_line(lines, anchors, raw))
            yield Markup("<blockquote>{}</blockquote>").format(quoted)
    yield from _line(text[end:], anchors, raw)


def _line(text: str, anchors: list[Markup], raw: list[str]) -> Iterator[Markup]:
    [parsed] = _parser.parseInline(text)
    for token in parsed.children or []:
        if token.type == "text":
            pieces = _stand_in.split(token.content)
            yield from (anchors[int(it)] if place % 2 else escape(it) for place, it in enumerate(pieces))
        elif token.type == "code_inline":
            yield Markup("<code>{}</code>").format(_replaced(token.content, raw))
        else:
            tag = "strong" if token.markup[0] == "*" else "em"
            yield Markup("<{}{}>").format("/" if token.nesting < 0 else "", tag)


def _replaced(text: str, raw: list[str]) -> str:
    """The text with its links as they were typed."""
    return _stand_in.sub(lambda it: raw[int(it[1])], text)
