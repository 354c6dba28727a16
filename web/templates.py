"""Templates as text: whole pages, and the macros that fragments are made of.

A fragment is a macro in a file whose name begins with an underscore: pages include it, and the socket calls it
directly. Every template ends in `.html`, which is what turns escaping on.
"""

import re
from collections.abc import Callable, Hashable, MutableMapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context, select_autoescape
from jinja2.ext import Extension
from jinja2.runtime import Context
from markupsafe import Markup

from web import assets, words

ROOT = Path(__file__).parent.parent
TEMPLATES = ROOT / "templates"
RARE = re.compile("[^\0-\u04ff]")


def page(template: str, /, **context: object) -> str:
    """A whole template."""
    return _spoken(words.language()).get_template(template).render(context)


@cache
def macro(template: str, name: str) -> Callable[..., Markup]:
    """A macro of a template, to be called with its arguments."""
    return cast(Callable[..., Markup], getattr(environment.get_template(template).module, name))


# All messages of a transaction have the same time, and each of them is rendered several times.
@lru_cache(256)
def time(moment: datetime) -> Markup:
    """A `<time>` in UTC, until the page's script puts it in the reader's own time zone."""
    there = moment.astimezone(UTC)
    shown = there.strftime("%Y-%m-%d %H:%M UTC")
    return macro("_time.html", "time")(there.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), shown)


@lru_cache(4096)
def _avatar(username: str, shown: str, hue: int | None) -> Markup:
    """An initial in one of eight colours: the one that was chosen, or the one that always goes with this username."""
    return macro("_avatar.html", "avatar")(shown, sum(username.lower().encode()) % 8 if hue is None else hue)


def _gettext(message: str, /, **arguments: object) -> Markup:
    said = _said(words.language(), message)
    return said % arguments if arguments else said


def _ngettext(one: str, many: str, num: int, /, **arguments: object) -> Markup:
    return Markup(words.ngettext(one, many, num)) % {"num": num, **arguments}  # noqa: S704 - no user wrote it


@lru_cache(2048)
def _rendered(language: str, template: str, **context: Hashable) -> Markup:
    with words.speaking(language):
        return Markup(_narrow(page(template, **context)))  # noqa: S704 - a template, which escapes


def _narrow(html: str) -> str:
    """One symbol or emoji makes Python take two or four bytes for each character of the whole page."""
    return RARE.sub(lambda found: f"&#{ord(found[0])};", html)


@pass_context  # otherwise Jinja would call it once, while it compiles the page, in the language of that moment
def _fixed(_context: Context, template: str, **context: Hashable) -> Markup:
    """A template that depends on its language and `context` alone, rendered once while it is asked for often."""
    return _rendered(words.language(), template, **context)


@cache
def _said(language: str, message: str) -> Markup:
    with words.speaking(language):
        return Markup(words.gettext(message))  # noqa: S704 - no user wrote it


class _Say(Extension):
    """Puts sentences that stand alone into words when a template is compiled: each call takes two microseconds."""

    ALONE = re.compile(r"""\{\{ _\((?:"([^"]*)"|'([^']*)')\) \}\}""")
    CODE = re.compile(r"(\{[{%#].*?[}%#]\})", re.DOTALL)

    def preprocess(self, source: str, _name: str | None, _filename: str | None = None) -> str:
        language: str = self.environment.language  # type: ignore[attr-defined]
        said = self.ALONE.sub(lambda found: _said(language, found[1] or found[2]), source)
        return "".join(part if place % 2 else _narrow(part) for place, part in enumerate(self.CODE.split(said)))


class _Environment(Environment):
    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        """One plain dict: walking Jinja's chain for every included template took a quarter of a page's time."""
        return {**self.globals, **(d or {})}


def _make_environment() -> Environment:
    made = _Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n"],
    )
    made.filters.update(asset=assets.url, time=time, avatar=_avatar, fixed=_fixed)
    made.policies["ext.i18n.trimmed"] = True
    # As Jinja's own would be, but those took a third of a page's time.
    made.newstyle_gettext = True  # type: ignore[attr-defined]
    made.globals.update(
        _=_gettext,
        gettext=_gettext,
        ngettext=_ngettext,
        language=words.language,
        style=assets.style,
        theme="",
        scripts="",
    )
    return made


environment = _make_environment()


@cache
def _spoken(language: str) -> Environment:
    """The environment of pages in one language. Macros have the other one: what all readers get is made of them."""
    made = _make_environment()
    made.language = language  # type: ignore[attr-defined]
    made.add_extension(_Say)
    return made
