"""Formatting: what is marked up is shown so, everything else stays as typed, and nothing is HTML."""

import re

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from tests.site import Person
from web.chat.formatting import formatted, is_large

LINK = '<a href="{0}" target="_blank" rel="noopener noreferrer nofollow">{0}</a>'


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("*bold* and _italic_", "<strong>bold</strong> and <em>italic</em>"),
        ("*_both_*", "<strong><em>both</em></strong>"),
        ("say `a * b * c` now", "say <code>a * b * c</code> now"),
        ("`<b>`", "<code>&lt;b&gt;</code>"),
        ("```\nx = 1\n  y\n```", "<pre><code>x = 1\n  y</code></pre>"),
        ("look:\n```py\n*x*\n```\nend", "look:<pre><code>*x*</code></pre>end"),
        ("> a *b*\n> c\nd", "<blockquote>a <strong>b</strong>\nc</blockquote>d"),
        ("_see https://x.org/a_b_c now_", f"<em>see {LINK.format('https://x.org/a_b_c')} now</em>"),
        ('(*so*), "_and so_"!', "(<strong>so</strong>), &#34;<em>and so</em>&#34;!"),
        ("`https://example.com`", "<code>https://example.com</code>"),
        ("*https://example.com/_x_/*", None),
    ],
)
def test_marks_become_formatting(text: str, html: str | None) -> None:
    if html is not None:
        assert formatted(text) == (html, False)
    else:
        assert 'href="https://example.com/_x_/' in formatted(text).html


@pytest.mark.parametrize(
    "text",
    [
        "2*3*4",
        "snake_case_name",
        "5 * 3 * 2",
        "* a list\n* of two",
        "*",
        "**",
        "_",
        "`",
        "```",
        "*not closed",
        ">_<",
        "> ",
        ">no space",
        "a > b",
        "  two  spaces \n\n\n and lines  ",
        "# no heading",
        "1. no list",
        "![x](y)",
        "[x](javascript:alert)",
        "\\*stays\\",
        "&amp; &lt;",
        "<b>no</b>",
        "~~no~~",
        "¯\\_(ツ)_/¯",
        "\ue0000\ue001 *x*",
    ],
)
def test_what_is_not_formatting_stays_as_typed(text: str) -> None:
    html = formatted(text).html
    assert BeautifulSoup(f"<i>{html}</i>", "html.parser").get_text() in (text, text.removeprefix("> "))
    assert not re.search("<(?!/?blockquote)", html)


@given(st.text(st.sampled_from(list("ab *_`>\n<&\"'./:h\ue000\ue0011")), max_size=200))
def test_no_text_becomes_any_other_html(text: str) -> None:
    html, is_plain = formatted(text)
    found = BeautifulSoup(f"<pre>{html}</pre>", "html.parser")
    assert {tag.name for tag in found.find_all()} <= {"strong", "em", "code", "pre", "blockquote", "a"}
    assert re.sub(r"[*_`> \n]", "", found.get_text()) == re.sub(r"[*_`> \n]", "", text)
    if is_plain:
        assert found.get_text() == text


@pytest.mark.parametrize("text", ["*" * 4000, "_a" * 2000, "`" * 4000, "> " * 2000, "*a _b " * 666, "```a\n" * 800])
def test_hostile_marks_are_soon_done(text: str) -> None:
    assert len(formatted(text).html) < 60_000


def test_formatting_is_on_pages_and_its_source_stays(alice: Person, bob: Person) -> None:
    alice.post("bob", "*bold* & `code`")
    body = bob.page("/chat/alice").one(".messages .message-body[data-source]")
    assert (body.get_text(), body["data-source"]) == ("bold & code", "*bold* & `code`")
    assert [tag.name for tag in body.find_all()] == ["strong", "code"]
    assert alice.page("/chat/bob/messages/1").one("textarea#edit").get_text().strip() == "*bold* & `code`"
    assert "*bold*" in bob.page("/").one("#chats .preview").get_text()


@pytest.mark.parametrize("text", ["👍", "👨‍👩‍👧‍👦🎉❤️", "👍🏽👍🏽👍🏽"])
def test_emoji_alone_are_large(text: str) -> None:
    assert is_large(text)


@pytest.mark.parametrize("text", ["👍👍👍👍", "👍 ok", "", "→", "晚餐", "7", "👍\n👍"])
def test_other_texts_are_not(text: str) -> None:
    assert not is_large(text)
