"""A chat that neither has written in yet: its pages are live before there is a conversation."""

from playwright.sync_api import Page, expect

from tests.browser.conftest import Windows
from tests.browser.test_chat import connected, write
from tests.site import Person


def shows(page: Page, *bodies: str) -> None:
    expect(page.locator(".message[data-seq] .message-body")).to_have_text(bodies)
    expect(page.locator(".pending")).to_have_count(0)


def test_first_messages_arrive_in_every_tab(window: Windows, alice: Person, bob: Person) -> None:
    hers, his = window(alice), window(bob)
    pages = [hers.open("/chat/bob"), hers.tab("/chat/bob"), his.open("/chat/alice"), his.tab("/chat/alice")]
    for page in pages:
        connected(page)

    write(pages[0], "hello")
    for page in pages:
        shows(page, "hello")
    pages[3].get_by_label("Message to").press_sequentially("h")
    expect(pages[0].locator(".typing", has_text="bob is typing")).to_be_visible()
    write(pages[3], "hi")
    for page in pages:
        shows(page, "hello", "hi")
    expect(pages[0].locator(".typing", has_text="bob is typing")).to_have_count(0)
    pages[1].reload()
    connected(pages[1])
    bob.post("alice", "by HTTP")
    for page in pages:
        shows(page, "hello", "hi", "by HTTP")
    expect(pages[0].locator("#chats .name")).to_have_text("bob")


def test_both_write_first_at_once(window: Windows, alice: Person, bob: Person) -> None:
    one, other = window(alice).open("/chat/bob"), window(bob).open("/chat/alice")
    connected(one)
    connected(other)

    one.get_by_label("Message to").fill("from alice")
    other.get_by_label("Message to").fill("from bob")
    for page in (one, other):
        page.evaluate("document.querySelector('#composer').requestSubmit()")

    for page in (one, other):
        expect(page.locator(".message[data-seq]")).to_have_count(2)
        expect(page.locator(".pending")).to_have_count(0)
    bodies = [page.locator(".message[data-seq] .message-body").all_inner_texts() for page in (one, other)]
    assert bodies[0] == bodies[1]
    assert set(bodies[0]) == {"from alice", "from bob"}


def test_a_page_that_was_away_catches_up_with_the_first_messages(window: Windows, alice: Person, bob: Person) -> None:
    his = window(bob)
    away = True
    his.page.route_web_socket("**/ws", lambda ws: ws.close(code=1013) if away else ws.connect_to_server())
    page = his.open("/chat/alice")
    page.wait_for_selector("body[data-socket=lost]")
    alice.post("bob", "one")
    alice.post("bob", "two")
    away = False

    shows(page, "one", "two")
    alice.post("bob", "three")
    shows(page, "one", "two", "three")
