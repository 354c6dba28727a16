"""The emoji picker: into what one writes, and onto a message."""

from playwright.sync_api import Page, expect

from tests.browser.conftest import Windows
from tests.browser.test_access import problems
from tests.browser.test_actions import row
from tests.browser.test_chat import connected
from tests.site import Person
from tests.views.test_words import RUSSIAN


def pick(page: Page, searched: str, emoji: str) -> None:
    frame = page.frame_locator("#emoji iframe")
    frame.get_by_role("combobox").fill(searched)
    frame.get_by_role("option", name=emoji).first.click()
    expect(page.locator("#emoji")).to_be_hidden()


def test_an_emoji_goes_where_one_writes(window: Windows, alice: Person, bob: Person) -> None:
    page = window(alice, locale="en-GB").open("/chat/bob")
    connected(page)
    assert page.locator("#emoji iframe").get_attribute("src") is None  # it is loaded when it is first opened
    page.get_by_label("Message to").fill("for you")
    page.get_by_label("Message to").press("Home")

    page.get_by_role("button", name="Emoji").click()
    pick(page, "key", "🔑")

    expect(page.get_by_label("Message to")).to_have_value("🔑for you")
    expect(page.get_by_label("Message to")).to_be_focused()
    page.get_by_role("button", name="Emoji").click()
    page.frame_locator("#emoji iframe").get_by_role("combobox").press("Escape")
    expect(page.locator("#emoji")).to_be_hidden()
    expect(page.get_by_label("Message to")).to_have_value("🔑for you")


def test_any_emoji_is_a_reaction_and_the_picker_speaks_the_readers_language(
    window: Windows, alice: Person, bob: Person
) -> None:
    bob.post("alice", "hello")
    alice.http.post("/settings/myself", data=RUSSIAN)
    hers, his = window(alice, color_scheme="dark").open("/chat/bob"), window(bob).open("/chat/alice")
    connected(hers)
    connected(his)

    row(hers, 1).hover()
    hers.get_by_role("button", name="Другой эмодзи").click()
    expect(hers.frame_locator("#emoji iframe").get_by_role("combobox")).to_have_attribute("placeholder", "Искать")
    pick(hers, "слон", "🐘")

    expect(row(his, 1).locator(".reaction")).to_have_attribute("data-emoji", "🐘")


def test_axe_finds_nothing_in_the_picker(window: Windows, alice: Person) -> None:
    page = window(alice).open("/emoji")
    expect(page.get_by_role("combobox")).to_be_visible()
    assert problems(page) == []
