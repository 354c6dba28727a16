"""Drafts: kept for each chat, over reloads and devices, and never in place of what somebody types."""

from playwright.sync_api import expect

from tests.browser.conftest import Windows
from tests.browser.test_chat import connected
from tests.site import PASSWORD, Person


def test_a_draft_is_kept_over_reloads_and_shown_in_the_list(window: Windows, alice: Person, bob: Person) -> None:
    bob.post("alice", "hello")
    page = window(alice).open("/chat/bob")
    connected(page)
    page.get_by_label("Message to").fill("not yet\nsent")
    page.reload()  # before the server has it
    expect(page.get_by_label("Message to")).to_have_value("not yet\nsent")
    expect(page.locator("#chats .preview")).to_have_text("Draft: not yet\nsent")

    page.get_by_label("Message to").press("Enter")
    expect(page.locator(".message[data-seq]").last).to_contain_text("not yet")
    expect(page.locator("#chats .preview")).to_have_text("You: not yet\nsent")
    page.reload()
    expect(page.get_by_label("Message to")).to_have_value("")


def test_a_draft_of_another_device_comes_into_an_empty_field_only(window: Windows, alice: Person, bob: Person) -> None:
    bob.post("alice", "hello")
    laptop, phone = window(alice).open("/chat/bob"), window(alice).open("/chat/bob")
    for page in (laptop, phone):
        connected(page)
    phone.evaluate("document.activeElement.blur()")

    laptop.get_by_label("Message to").fill("from the laptop")
    expect(phone.get_by_label("Message to")).to_have_value("from the laptop")

    # Whoever types keeps what they typed, and so does the other one.
    phone.get_by_label("Message to").fill("from the phone")
    expect(phone.locator("#chats .preview")).to_have_text("Draft: from the phone")
    expect(laptop.locator("#chats .preview")).to_have_text("Draft: from the phone")
    expect(laptop.get_by_label("Message to")).to_have_value("from the laptop")
    laptop.get_by_label("Message to").press("End")
    laptop.get_by_label("Message to").press_sequentially("!")
    laptop.wait_for_timeout(1500)
    expect(phone.get_by_label("Message to")).to_have_value("from the phone")

    laptop.reload()
    expect(laptop.get_by_label("Message to")).to_have_value("from the phone\nfrom the laptop!")


def test_without_a_connection_a_draft_is_kept_and_sent_to_the_server_later(
    window: Windows, alice: Person, bob: Person
) -> None:
    bob.post("alice", "hello")
    hers = window(alice)
    hers.excused = ["WebSocket", "htmx", "ERR_INTERNET", "fetch"]
    page = hers.open("/chat/bob")
    connected(page)
    hers.context.set_offline(True)
    page.evaluate("document.body._htmx.ws.connection.socket.dispatchEvent(new CloseEvent('close', {code: 1006}))")
    page.get_by_label("Message to").fill("offline")
    page.wait_for_timeout(1200)
    hers.context.set_offline(False)

    expect(page.locator("#chats .preview")).to_have_text("Draft: offline")


def test_whoever_logs_in_again_is_back_in_the_chat_with_the_text(window: Windows, alice: Person, bob: Person) -> None:
    bob.post("alice", "hello")
    hers = window(alice)
    page = hers.open("/chat/bob")
    connected(page)
    page.get_by_label("Message to").fill("half a thought")
    with hers.context.expect_page() as opened:
        page.evaluate("window.open('/settings')")
    opened.value.get_by_role("button", name="Log out").click()

    page.get_by_role("link", name="Log in again").click()
    page.get_by_label("Username").fill("alice")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()

    expect(page.get_by_label("Message to")).to_have_value("half a thought")
    assert page.url.endswith("/chat/bob")


def test_the_draft_of_one_chat_never_gets_into_another(
    window: Windows, alice: Person, bob: Person, charlie: Person
) -> None:
    for person in (bob, charlie):
        person.post("alice", "hello")
    page = window(alice).open("/chat/bob")
    connected(page)
    page.get_by_label("Message to").fill("for bob")
    expect(page.locator("#chats a[href='/chat/bob'] .preview")).to_have_text("Draft: for bob")
    page.evaluate("""localStorage.setItem("knock-draft-alice-charlie", '{"text":"for charlie","base":""}')""")

    page.locator("#chats a[href='/chat/charlie']").click()

    expect(page.get_by_label("Message to charlie")).to_have_value("for charlie")
    expect(page.locator("#chats a[href='/chat/charlie'] .preview")).to_have_text("Draft: for charlie")
    page.locator("#chats a[href='/chat/bob']").click()
    expect(page.get_by_label("Message to bob")).to_have_value("for bob")
    assert page.evaluate("Object.keys(localStorage).filter((it) => it.startsWith('knock-draft'))") == []
