"""Pinned and muted chats, stars, links, selections, and forwarding, in the window."""

from playwright.sync_api import expect

from tests.browser.conftest import Windows
from tests.browser.test_actions import row, tool
from tests.browser.test_chat import connected
from tests.browser.test_same_rules import DEAFEN
from tests.site import Person, eventually


def test_a_pinned_chat_is_on_top_in_every_tab(window: Windows, alice: Person, bob: Person, charlie: Person) -> None:
    bob.post("alice", "first")
    charlie.post("alice", "second")
    hers = window(alice)
    page, other = hers.open("/chat/bob"), hers.tab("/")
    connected(page)
    connected(other)

    page.locator(".menu summary").click()
    page.get_by_role("button", name="Pin above the others").click()

    for tab in (page, other):
        expect(tab.locator("#chats .name")).to_have_text(["bob", "charlie"])
    charlie.post("alice", "third")
    expect(other.locator("#chats .preview").nth(1)).to_have_text("third")
    page.locator(".menu summary").click()
    page.get_by_role("button", name="Unpin").click()
    expect(other.locator("#chats .name")).to_have_text(["charlie", "bob"])


def test_the_menu_of_a_chat_follows_what_another_tab_does(window: Windows, alice: Person, bob: Person) -> None:
    bob.post("alice", "first")
    hers = window(alice)
    page, other = hers.open("/chat/bob"), hers.tab("/chat/bob")
    connected(page)
    connected(other)
    other.get_by_role("link", name="Settings").click()  # the chat is kept in memory
    expect(other.get_by_role("heading", name="Settings", exact=True)).to_be_visible()

    page.locator(".menu summary").click()
    page.get_by_role("button", name="Pin above the others").click()

    expect(other.locator("#chats [data-pinned]")).to_be_visible()
    other.locator("#chats a").click()
    other.locator(".menu summary").click()
    expect(other.get_by_role("button", name="Unpin")).to_be_visible()
    expect(other.get_by_role("button", name="Pin above the others")).to_be_hidden()


def test_a_chat_that_was_taken_out_of_the_list_is_gone_after_a_break(
    window: Windows, alice: Person, bob: Person, charlie: Person
) -> None:
    bob.post("alice", "first")
    charlie.post("alice", "second")
    page = window(alice).open("/")
    connected(page)
    expect(page.locator("#chats .name")).to_have_text(["charlie", "bob"])
    page.evaluate(DEAFEN)
    page.evaluate("document.body.isDeaf = true")

    alice.http.post("/chat/charlie/hide")
    page.wait_for_timeout(500)
    expect(page.locator("#chats .name")).to_have_text(["charlie", "bob"])
    page.evaluate("document.body.isDeaf = false")
    page.evaluate("document.body._htmx.ws.connection.socket.dispatchEvent(new CloseEvent('close', {code: 1006}))")

    expect(page.locator("#chats .name")).to_have_text(["bob"])


def test_a_muted_chat_counts_but_not_in_the_title(window: Windows, alice: Person, bob: Person) -> None:
    bob.post("alice", "one")
    hers = window(alice)
    page, other = hers.open("/chat/bob"), hers.tab("/")
    connected(page)
    connected(other)
    page.locator(".menu summary").click()
    page.get_by_role("button", name="Mute for a day").click()
    page.wait_for_selector("body[data-socket=open]")
    page.goto(alice.site.url + "/settings")

    bob.post("alice", "two")

    expect(other.locator("#chats [data-muted] .unread")).to_have_text("1 unread")
    expect(other).to_have_title("Chats · Knock")
    # The day is over. The entry may come once more, with the true day.
    is_over = "() => { document.querySelector('#chats li').dataset.muted = '2020-01-01'; return document.title; }"
    eventually(lambda: other.evaluate(is_over) == "(1) Chats · Knock")


def test_a_star_shows_in_every_tab_and_leads_back(window: Windows, alice: Person, bob: Person) -> None:
    for body in ("one", "two"):
        bob.post("alice", body)
    hers = window(alice)
    page, other = hers.open("/chat/bob"), hers.tab("/chat/bob")
    connected(page)
    connected(other)

    tool(page, 1, "Star, or take the star away")

    for tab in (page, other):
        expect(row(tab, 1)).to_have_attribute("data-starred", "")
    page.get_by_role("link", name="Search").click()
    page.get_by_role("link", name="Starred messages").click()
    page.locator(".hits a").click()
    expect(row(page, 1)).to_be_in_viewport()
    expect(row(page, 1)).to_have_attribute("data-starred", "")
    tool(page, 1, "Star, or take the star away")
    expect(other.locator(".message[data-starred]")).to_have_count(0)


def test_links_and_selected_messages_are_copied(window: Windows, alice: Person, bob: Person) -> None:
    for body in ("one", "*two*", "three"):
        bob.post("alice", body)
    hers = window(alice)
    hers.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = hers.open("/chat/bob")
    connected(page)
    clipboard = "navigator.clipboard.readText()"

    tool(page, 2, "Copy the link")
    assert page.evaluate(clipboard) == f"{alice.site.url}/chat/bob?around=2"

    tool(page, 1, "Select")
    row(page, 2).locator(".bubble").click()
    expect(page.locator("#selection .count")).to_have_text("2")
    row(page, 3).locator(".bubble").click()
    row(page, 3).locator(".bubble").click()
    page.get_by_role("button", name="Copy 2").click()
    first, second = page.evaluate(clipboard).split("\n\n")
    assert first.startswith("bob, ")
    assert (first.splitlines()[1], second.splitlines()[1]) == ("one", "*two*")
    expect(page.locator("#selection")).to_be_hidden()
    tool(page, 1, "Select")
    page.keyboard.press("Escape")
    expect(page.locator(".message[data-selected]")).to_have_count(0)


def test_a_message_is_forwarded_into_another_chats_composer(
    window: Windows, alice: Person, bob: Person, charlie: Person
) -> None:
    bob.post("alice", "4 Hill Road")
    charlie.post("alice", "where?")
    page = window(alice).open("/chat/bob")
    connected(page)

    tool(page, 1, "Forward")
    page.get_by_label("Forward to").select_option(label="charlie")
    page.get_by_role("button", name="Put it into the message").click()

    expect(page.get_by_role("heading", name="charlie", exact=True)).to_be_visible()
    expect(page.get_by_label("Message to")).to_have_value("> 4 Hill Road\n")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".message blockquote")).to_have_text("4 Hill Road")
