"""What two people see of each other: how far messages got, live on both pages."""

from playwright.sync_api import expect

from tests.browser.conftest import Windows
from tests.browser.test_actions import row, tool
from tests.browser.test_chat import connected
from tests.site import Person


def test_ticks_follow_the_other_person(window: Windows, alice: Person, bob: Person) -> None:
    alice.post("bob", "one")
    hers = window(alice).open("/chat/bob")
    connected(hers)
    expect(row(hers, 1)).to_have_attribute("data-state", "sent")
    expect(hers.locator(".reading")).to_have_text("Sent")

    his = window(bob).open("/")
    connected(his)
    expect(row(hers, 1)).to_have_attribute("data-state", "delivered")
    hers.locator("#body").fill("two")
    hers.locator("#body").press("Enter")
    expect(row(hers, 2)).to_have_attribute("data-state", "delivered")
    expect(hers.locator("#chats li")).to_have_attribute("data-state", "delivered")
    expect(hers.locator(".reading")).to_have_text("Delivered")

    his.locator("#chats a").click()
    for seq in (1, 2):
        expect(row(hers, seq)).to_have_attribute("data-state", "read")
    expect(hers.locator(".reading")).to_have_text("Read")
    expect(hers.locator(".reading")).to_have_attribute("data-read", "2")
    his.locator("#body").fill("three")
    his.locator("#body").press("Enter")
    expect(hers.locator(".reading")).to_have_text("")
    expect(his.locator(".reading")).to_have_text("Read")


def test_a_chat_marked_as_unread_is_so_until_it_is_opened_again(window: Windows, alice: Person, bob: Person) -> None:
    for body in ("one", "two", "three"):
        alice.post("bob", body)
    his = window(bob).open("/chat/alice")
    connected(his)
    expect(his.locator("#chats .unread")).to_have_count(0)
    other = window(bob).open("/")
    connected(other)

    tool(his, 2, "Mark as unread from here")
    for page in (his, other):
        expect(page.locator("#chats .unread")).to_have_text("2 unread")
        expect(page).to_have_title("(2) Chats · Knock")
    his.locator("#chats a").click()
    for page in (his, other):
        expect(page.locator("#chats .unread")).to_have_count(0)


def test_the_head_and_the_list_say_who_is_here_and_types(window: Windows, alice: Person, bob: Person) -> None:
    alice.post("bob", "one")
    hers = window(alice).open("/chat/bob")
    connected(hers)
    expect(hers.locator(".presence")).to_have_text("")
    his = window(bob).open("/chat/alice")
    connected(his)
    expect(hers.locator(".presence")).to_have_text("online")
    expect(hers.locator("#chats a")).to_have_attribute("title", "online")

    his.locator("#body").press_sequentially("hm")
    expect(hers.locator(".about .typing")).to_have_text("bob is typing…")
    expect(hers.locator("#chats .types")).to_have_text("bob is typing…")
    with alice.socket() as phone:
        phone.send(action="draft", to="bob", body="what she typed elsewhere", base="")
        expect(hers.locator("#chats .preview")).to_contain_text("what she typed elsewhere")
    expect(hers.locator("#chats .types")).to_have_text("bob is typing…")
    his.locator("#body").press("Enter")
    expect(hers.locator("#chats .types")).to_have_text("")

    his.close()
    expect(hers.locator(".presence")).to_have_text("last seen 5 minutes ago", timeout=30_000)
    expect(hers.locator("#chats a")).to_have_attribute("title", "")
