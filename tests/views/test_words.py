"""Every sentence is there in every language, and no page has one that bypasses the catalogues."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from bs4 import BeautifulSoup
from bs4.element import NavigableString

from tests.site import Person, Site
from web import words

TOP = Path(words.__file__).parent.parent
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "Sentence": None, "Counted": (1, 2)}
JINJA = {"extensions": "jinja2.ext.i18n", "trimmed": "true"}
OURS = {"Knock", "Telegram", "TELEGRAM", "BOT", "TOKEN", "QR", "Ctrl", "Alt", "Enter", "Shift", "Esc", "English"}
OURS |= {"Forwarded", "For", "FORWARDED", "ALLOW", "IPS", "SITE", "URL", "https", "cookie"}
"""Latin words that Russian pages have: names, keys, and settings."""
RUSSIAN = {"display_name": "", "hue": "", "language": "ru"}
PLACEHOLDER = re.compile(r"%\(\w+\)\w+|\{\}|</?\w+")


def sentences() -> Iterator[str | tuple[str, ...]]:
    mappings = [("web/**.py", "python"), ("templates/**.html", "jinja2")]
    for _, _, message, _, _ in extract_from_dir(TOP, mappings, {"templates/**.html": JINJA}, KEYWORDS):
        yield message


@pytest.mark.parametrize("language", set(words.LANGUAGES) - {"en"})
def test_every_sentence_is_translated(language: str) -> None:
    with (words.LOCALES / f"{language}.po").open("rb") as file:
        catalogue = read_po(file, locale=language)
    wanted = set(sentences())
    assert len(wanted) > 200

    for message in wanted:
        found = catalogue.get(message[0] if isinstance(message, tuple) else message)
        assert isinstance(found, Message), f"{message!r} is missing: run scripts/words"
        said = found.string if isinstance(found.string, tuple) else (found.string,)
        assert len(said) == (catalogue.num_plurals if found.pluralizable else 1)
        original = str(found.id[-1] if isinstance(found.id, tuple) else found.id)
        for form in map(str, said):
            assert form, f"{message!r} has no translation"
            assert set(PLACEHOLDER.findall(form)) == set(PLACEHOLDER.findall(original)), form
    used = {message[0] if isinstance(message, tuple) else message for message in wanted}
    assert {it.id[0] if it.pluralizable else it.id for it in catalogue if it.id} == used  # nothing is left of old ones


def english(page: BeautifulSoup) -> set[str]:
    """The Latin words that people see or hear of a page."""
    said = [str(text) for text in page.find_all(string=True) if type(text) is NavigableString]
    for element in page.select("[aria-label], [placeholder], [title], [alt]"):
        said += [str(element.get(name, "")) for name in ("aria-label", "placeholder", "title", "alt")]
    body = page.select_one("body")
    said += [str(value) for name, value in (body.attrs if body else {}).items() if name.startswith("data-")]
    return set(re.findall(r"[A-Za-z]{2,}", " ".join(said))) - OURS


def test_russian_pages_have_no_english(site: Site, alice: Person, bob: Person) -> None:
    alice.http.headers["Accept-Language"] = "ru"
    alice.post("bob", "привет")
    names = {"alice", "bob", "zzz", "chat", "message", "json", "UTC", "python", "httpx"}

    for path in ("/", "/users", "/users?q=zzz", "/chat/bob", "/settings", "/settings/second-factor", "/admin",
                 "/settings/account/delete", "/chat/nobody", "/settings/confirm"):  # fmt: skip
        page = BeautifulSoup(alice.http.get(path).text, "html.parser")
        assert page.select_one("html[lang=ru]"), path
        assert not english(page) - names, path
    stranger = site.client()
    stranger.headers["Accept-Language"] = "de, ru;q=0.8, en;q=0.5"
    for path in ("/login", "/register", "/login?registered=x"):
        assert not english(BeautifulSoup(stranger.get(path).text, "html.parser")), path
    for path, form in (("/register", {"username": "!", "password": "x"}), ("/login", {}),
                       ("/login", {"username": "bob", "password": "wrong"})):  # fmt: skip
        refused = stranger.post(path, data=form)
        assert refused.status_code == 422
        assert not english(BeautifulSoup(refused.text, "html.parser")) - {"bob"}, path


def test_refusals_are_in_the_language_of_their_reader(alice: Person, bob: Person) -> None:
    alice.http.post("/settings/myself", data=RUSSIAN)
    with alice.socket() as tab:
        tab.send(action="send", to="bob", body="x" * 4001, nonce="n")
        assert "Знаков: 4\xa0001" in tab.refusal().get_text()


def test_the_language_of_the_settings_wins_over_the_browsers(alice: Person) -> None:
    assert '<html lang="en">' in alice.http.get("/").text
    assert alice.http.post("/settings/myself", data=RUSSIAN).status_code == 303
    assert '<html lang="ru">' in alice.http.get("/").text
    assert alice.http.post("/settings/myself", data={**RUSSIAN, "language": "xx"}).status_code == 422
    assert '<html lang="ru">' in alice.http.get("/").text


def test_a_person_chooses_a_name_and_a_colour(alice: Person, bob: Person, charlie: Person) -> None:
    charlie.post("bob", "hi")
    bob.http.get("/chat/charlie")  # now the process remembers their people
    chosen = {"display_name": "Тётя Чарли ☂", "hue": "5", "language": ""}
    assert charlie.http.post("/settings/myself", data=chosen).status_code == 303

    assert "Тётя Чарли ☂" in bob.page("/").one("#chats .name").get_text()
    assert bob.page("/").one("#chats .avatar")["data-hue"] == "5"
    assert bob.page("/chat/charlie").one("#chat-title").get_text() == "Тётя Чарли ☂"
    found = bob.page("/users?q=чарли").one(".people a")
    assert (found["href"], "@charlie" in found.get_text()) == ("/chat/charlie", True)
    for wrong in ("alice", "AL1CE", "Knock", "x" * 41, "a\u202eb"):
        refused = charlie.http.post("/settings/myself", data={**chosen, "display_name": wrong})
        assert refused.status_code == 422, wrong
        assert wrong in refused.text or "\u202e" in wrong  # it is still in its field
    assert "Тётя" in bob.page("/").one("#chats .name").get_text()


def test_light_or_dark_is_the_choice_of_a_browser(alice: Person) -> None:
    assert "data-theme" not in alice.http.get("/").text
    alice.http.post("/settings/myself", data={**RUSSIAN, "theme": "dark"})
    assert 'data-theme="dark"' in alice.http.get("/").text
    alice.http.post("/settings/myself", data={**RUSSIAN, "theme": '"><script>'})
    assert "data-theme" not in alice.http.get("/").text


def test_the_first_reader_does_not_choose_the_language_for_all(site: Site, alice: Person) -> None:
    """Each process compiles a page for its first reader, and caches parts of it."""
    for language in ("ru", "en", "ru"):
        for _ in range(8):  # two processes
            page = alice.http.get("/", headers={"Accept-Language": language, "Connection": "close"})
            keys = BeautifulSoup(page.text, "html.parser").select_one("#keys h2")
            assert keys
            assert (keys.get_text() == "Keys") is (language == "en")
