"""Templates as text: whole pages, and the macros that fragments are made of.

A fragment is a macro in a file whose name begins with an underscore: pages include it, and the socket calls it
directly. Every template ends in `.html`, which is what turns escaping on.
"""

from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from web import assets

ROOT = Path(__file__).parent.parent
TEMPLATES = ROOT / "templates"


def page(template: str, /, **context: object) -> str:
    """A whole template."""
    return environment.get_template(template).render(context)


@cache
def macro(template: str, name: str) -> Callable[..., Markup]:
    """A macro of a template, to be called with its arguments."""
    return cast(Callable[..., Markup], getattr(environment.get_template(template).module, name))


# All messages of a transaction have the same time, and each of them is rendered several times.
@lru_cache(256)
def time(moment: datetime) -> Markup:
    """A `<time>` in UTC, until the page's script puts it in the reader's own time zone."""
    there = moment.astimezone(UTC)
    shown = there.strftime("%-d %b %Y, %H:%M UTC")
    return macro("_time.html", "time")(there.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), shown)


@lru_cache(4096)
def _avatar(username: str) -> Markup:
    """An initial in one of eight colours, always the same colour for the same name."""
    return macro("_avatar.html", "avatar")(username, sum(username.lower().encode()) % 8)


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
    )
    made.filters.update(asset=assets.url, time=time, avatar=_avatar)
    return made


environment = _make_environment()
