"""Sentences in the language of whoever reads them.

The English sentence is the key, `locales/<language>.po` has it in the others; `scripts/words` writes new ones there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from babel.support import NullTranslations, Translations

LOCALES = Path(__file__).parent / "locales"
LANGUAGES = {"en": "English", "ru": "Русский"}
"""Each in its own words."""

_language = ContextVar("language", default="en")


def _catalogue(language: str) -> NullTranslations:
    file = LOCALES / f"{language}.po"
    if not file.exists():
        return NullTranslations()
    compiled = BytesIO()
    with file.open("rb") as source:
        write_mo(compiled, read_po(source, locale=language))
    compiled.seek(0)
    return Translations(compiled)


_catalogues = {language: _catalogue(language) for language in LANGUAGES}


def language() -> str:
    """The language of the request, socket or card that is at hand."""
    return _language.get()


def speak(language: str) -> None:
    """Say everything in this language from here on, in this request or socket."""
    _language.set(language)


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Say everything in this language within the block."""
    token = _language.set(language)
    try:
        yield
    finally:
        _language.reset(token)


@lru_cache(256)
def preferred(wanted: str) -> str:
    """The language of ours that a browser likes best, from its Accept-Language header (RFC 9110, section 12.5.4)."""
    ranked = []
    for each in wanted[:200].split(","):
        name, _, quality = each.strip().partition(";q=")
        try:
            ranked.append((float(quality or 1), name.split("-")[0].lower()))
        except ValueError:
            continue
    ranked.sort(key=lambda it: -it[0])
    return next((name for quality, name in ranked if quality > 0 and name in LANGUAGES), "en")


def gettext(message: str) -> str:
    """The sentence in the language at hand."""
    return _catalogues[_language.get()].gettext(message)


def ngettext(one: str, many: str, count: int) -> str:
    """The sentence with the form of the noun that goes with the count."""
    return _catalogues[_language.get()].ngettext(one, many, count)


def number(count: int) -> str:
    """The number with the separators of the language at hand."""
    return format_decimal(count, locale=_language.get())


class Sentence:
    """A sentence that is put into words when it is shown, and not where it is thought of."""

    def __init__(self, message: str, **arguments: object) -> None:
        self.message = message
        self.arguments = arguments

    def __str__(self) -> str:
        return self._filled(gettext(self.message))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sentence) and (self.message, self.arguments) == (other.message, other.arguments)

    def __hash__(self) -> int:
        return hash(self.message)

    def _filled(self, words: str) -> str:
        shown = {name: number(it) if isinstance(it, int) else it for name, it in self.arguments.items()}
        return words % shown if shown else words


class Counted(Sentence):
    """A sentence about `count` things."""

    def __init__(self, one: str, many: str, count: int, **arguments: object) -> None:
        super().__init__(one, count=count, **arguments)
        self._many = many
        self._count = count

    def __str__(self) -> str:
        return self._filled(ngettext(self.message, self._many, self._count))
