"""Knock works without JavaScript, on a phone, with a screen reader, by keyboard and in dark mode."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Windows
from tests.site import PASSWORD, TOP, Person

AXE = (TOP / "node_modules" / "axe-core" / "axe.min.js").read_text()
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PAGES = ["/", "/users", "/users?q=zzz", "/chat/bob", "/chat/charlie", "/settings", "/nowhere", "/chat/nobody"]


def problems(page: Page) -> list[str]:
    """The violations that axe finds, with their elements."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [f"{it['id']}: {[node['html'][:120] for node in it['nodes']]}" for it in found["violations"]]


def test_without_javascript_everything_works_but_arriving_live(window: Windows, alice: Person, bob: Person) -> None:
    it = window(java_script_enabled=False)
    it.open("/register")
    it.page.get_by_label("Username").fill("dora")
    it.page.get_by_label("Password").fill(PASSWORD)
    it.page.get_by_role("button", name="Register").click()
    it.page.get_by_label("Password").fill(PASSWORD)
    it.page.get_by_role("button", name="Log in").click()
    page = it.page

    page.get_by_role("button", name="All users").click()
    page.get_by_role("searchbox").fill("bob")
    page.get_by_role("searchbox").press("Enter")
    page.get_by_role("link", name="bob").click()
    page.get_by_label("Message to").fill("no scripts here")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".message-body")).to_have_text("no scripts here")

    bob.post("dora", "nor there")
    page.get_by_role("link", name="Back to the chats").or_(page.locator(".brand")).first.click()
    expect(page.locator("#chats .unread")).to_contain_text("1")
    page.locator("#chats a").click()
    expect(page.locator(".message-body")).to_have_text(["no scripts here", "nor there"])
    page.locator(".brand").click()
    expect(page.locator("#chats .unread")).to_have_count(0)

    page.get_by_role("button", name="Log out").click()
    assert page.url.endswith("/login")


def test_on_a_phone_there_is_one_thing_at_a_time_and_a_way_back(window: Windows, alice: Person, bob: Person) -> None:
    bob.post("alice", "hello from a far longer name than fits, " * 5 + "W" * 200)
    page = window(alice, **PHONE).page
    page.wait_for_selector("body[data-socket=open]")

    expect(page.locator("#chats")).to_be_visible()
    page.locator("#chats a").click()
    expect(page.locator("#chats")).to_be_hidden()
    expect(page.get_by_label("Message to")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    page.get_by_label("Message to").fill("from the phone")
    page.get_by_role("button", name="Send").tap()
    expect(page.locator(".message[data-seq]").last).to_contain_text("from the phone")

    page.get_by_role("link", name="Back to the chats").tap()
    expect(page.locator("#chats")).to_be_visible()


@pytest.mark.parametrize("options", [{}, {**PHONE, "color_scheme": "dark"}, {"color_scheme": "dark"}, PHONE])
def test_axe_finds_nothing_on_any_page(
    window: Windows, alice: Person, bob: Person, charlie: Person, options: dict[str, Any]
) -> None:
    bob.post("alice", "see https://example.com")
    alice.post("bob", "thank you")
    stranger = window(**options)
    stranger.excused = ["404", "422"]
    found = {path: problems(stranger.open(path)) for path in ("/login", "/register", "/login?registered=alice")}
    stranger.page.get_by_role("button", name="Log in").click()
    found["a refused login"] = problems(stranger.page)
    hers = window(alice, **options)
    hers.excused = ["404"]
    for path in PAGES:
        found[path] = problems(hers.open(path))

    assert {path: said for path, said in found.items() if said} == {}


def test_the_page_can_be_used_by_keyboard_alone(window: Windows, alice: Person, bob: Person) -> None:
    bob.post("alice", "hello")
    page = window(alice).page
    page.wait_for_selector("body[data-socket=open]")

    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#chats') !== null"):
            break
    bob.post("alice", "hello again")
    expect(page.locator("#chats .preview")).to_have_text("hello again")
    assert page.evaluate("document.activeElement.closest('#chats') !== null"), "the arrival took the focus away"
    page.keyboard.press("Enter")

    page.wait_for_url("**/chat/bob")
    page.wait_for_selector("body[data-socket=open]")
    page.get_by_label("Message to").press_sequentially("typed")
    page.keyboard.press("Enter")
    expect(page.locator(".message[data-seq]").last).to_contain_text("typed")


def test_arriving_messages_are_in_a_polite_live_region(window: Windows, alice: Person, bob: Person) -> None:
    page = window(alice).open("/chat/bob")
    region = page.locator("[aria-live=polite]", has=page.locator(".messages[id^=messages-]"))

    expect(region).to_have_count(1)
    expect(region).to_have_attribute("role", "log")


def test_pages_may_be_zoomed(window: Windows, alice: Person) -> None:
    content = window(alice).page.locator("meta[name=viewport]").get_attribute("content") or ""

    assert "user-scalable" not in content
    assert "maximum-scale" not in content


def test_a_password_is_typed_by_pointer_and_can_be_shown(window: Windows, alice: Person) -> None:
    page = window().open("/login")
    field, button = page.get_by_label("Password"), page.get_by_role("button", name="Show what is typed")
    page.get_by_label("Username").fill("alice")
    field.click()  # in its middle, which nothing covers
    page.keyboard.type("typed")
    expect(field).to_have_attribute("type", "password")

    button.click()

    expect(field).to_have_attribute("type", "text")
    expect(field).to_have_value("typed")
    expect(button).to_have_attribute("aria-pressed", "true")
    button.click()
    expect(field).to_have_attribute("type", "password")
