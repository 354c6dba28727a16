"""One page, one socket: what opens beside the chat list, what stays, and where a chat opens."""

import re

import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Windows
from tests.browser.test_chat import connected, shown
from tests.chat.test_messages import fill
from tests.site import Person

COUNT_SOCKETS = """
sockets = 0;
WebSocket = class extends WebSocket { constructor(...all) { super(...all); sockets += 1; } };
"""


def in_list(page: Page, name: str) -> None:
    page.locator(f"#chats a[href='/chat/{name}']").click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def test_the_socket_and_the_list_stay_over_every_page_and_back(
    window: Windows, alice: Person, bob: Person, charlie: Person
) -> None:
    for person in (bob, charlie):
        person.post("alice", f"from {person.username}")
    hers = window(alice)
    hers.context.add_init_script(COUNT_SOCKETS)
    page = hers.open("/")
    page.wait_for_selector("body[data-socket=open]")
    page.evaluate("document.querySelector('#chats').kept = true")

    in_list(page, "bob")
    page.get_by_role("link", name="Settings").click()
    expect(page.get_by_role("heading", name="Settings", exact=True)).to_be_visible()
    expect(page).to_have_title("(1) Settings · Knock")
    page.get_by_role("button", name="All users").click()
    expect(page.get_by_role("heading", name="All users")).to_be_visible()
    assert page.url.endswith("/users")
    page.locator("#people").get_by_role("link", name="charlie").click()
    expect(page.locator(".message-body")).to_have_text("from charlie")
    expect(page.locator("#chats [aria-current]")).to_contain_text("charlie")
    for path, heading in (("/users", "All users"), ("/settings", "Settings"), ("/chat/bob", "bob")):
        page.go_back()
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
        assert page.url.endswith(path)
    page.go_forward()
    expect(page.get_by_role("heading", name="Settings", exact=True)).to_be_visible()

    assert page.evaluate("[sockets, document.querySelector('#chats').kept]") == [1, True]


def test_a_chat_seen_before_shows_without_the_server_and_catches_up(
    window: Windows, alice: Person, bob: Person, charlie: Person
) -> None:
    for person in (bob, charlie):
        person.post("alice", f"from {person.username}")
    page = window(alice).page
    page.wait_for_selector("body[data-socket=open]")
    in_list(page, "bob")
    page.get_by_label("Message to").fill("half a thought")
    in_list(page, "charlie")
    bob.post("alice", "meanwhile")
    expect(page.locator("#chats li").first.locator(".preview")).to_contain_text("Draft: half a thought")

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    in_list(page, "bob")

    expect(page.locator(".message-body")).to_have_text(["from bob", "meanwhile"])
    expect(page.get_by_label("Message to")).to_have_value("half a thought")
    assert not any(path == "bob" for path in asked)
    expect(page.locator("[data-new]")).to_contain_text("meanwhile")


def test_a_chat_opens_at_the_first_unread_message_and_reads_what_is_in_view(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    fill(postgres, 200)
    postgres.execute("UPDATE participants SET read_seq = 100")
    postgres.execute("UPDATE messages SET author_id = (SELECT max(id) FROM users)")
    hers = window(alice)
    list_page = hers.page
    expect(list_page.locator("#chats .unread")).to_contain_text("100")
    page = hers.tab("/chat/bob")
    connected(page)

    line = page.locator(".message[data-new]")
    expect(line).to_contain_text("number 101")
    expect(line).to_be_in_viewport()
    assert line.get_attribute("data-new") == "100 new"
    assert "number 200" not in shown(page)
    left = list_page.locator("#chats .unread")
    expect(left).not_to_contain_text("100")  # what is in view counts as read
    assert 60 < int(left.inner_text().split()[0]) < 100

    for _ in range(12):
        page.locator(".chat .scroll").evaluate("it => it.scrollBy(0, 1500)")
        page.wait_for_timeout(150)
    expect(page.locator(".message", has_text="number 200")).to_be_in_viewport()
    expect(left).to_have_count(0)
    assert line.get_attribute("data-new") == "100 new"  # it stays while one reads
    page.get_by_label("Message to").fill("an answer")
    page.get_by_label("Message to").press("Enter")
    expect(line).to_have_count(0)


def test_what_arrives_out_of_sight_is_counted_and_a_button_leads_there(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    fill(postgres, 120)
    page = window(alice).open("/chat/bob")
    connected(page)
    header, log, composer = (
        page.locator(it).bounding_box() for it in (".chat > header", ".chat > .scroll", "#composer")
    )
    assert header is not None
    assert log is not None
    assert composer is not None
    assert header["y"] + header["height"] <= log["y"]
    assert log["y"] + log["height"] <= composer["y"]
    page.locator(".chat .scroll").evaluate("it => it.scrollTo(0, -900)")
    button = page.get_by_role("link", name="Newest messages")
    expect(button).to_be_visible()
    place = page.locator(".message[data-seq='100']").bounding_box()

    for n in range(3):
        bob.post("alice", f"out of sight {n}")

    expect(button).to_contain_text("3")
    expect(page).to_have_title("(3) bob · Knock")
    assert page.locator(".message[data-seq='100']").bounding_box() == place
    button.click()
    expect(page.locator(".message", has_text="out of sight 2")).to_be_in_viewport()
    expect(button).to_be_hidden()
    expect(page).to_have_title("bob · Knock")


def test_far_away_messages_leave_the_page_and_come_back(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    fill(postgres, 1000)
    page = window(alice).open("/chat/bob?around=300")
    connected(page)
    expect(page.get_by_text("number 300", exact=True)).to_be_in_viewport()

    scroller = page.locator(".chat .scroll")
    for step in (-2500, 2500):
        for _ in range(60):
            scroller.evaluate("(it, step) => it.scrollBy(0, step)", step)
            page.wait_for_timeout(60)
            numbers = [int(body.split()[1]) for body in shown(page)]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "a gap"
            assert len(numbers) <= 350
        expect(page.get_by_text("number 1" if step < 0 else "number 1000", exact=True)).to_be_in_viewport()
    bob.post("alice", "live")
    expect(page.locator(".message", has_text="live")).to_be_in_viewport()


@pytest.mark.parametrize("path", ["/settings", "/users"])
def test_counts_and_the_list_are_live_on_every_page(
    window: Windows, alice: Person, bob: Person, charlie: Person, path: str
) -> None:
    bob.post("alice", "first")
    page = window(alice).open(path)
    page.wait_for_selector("body[data-socket=open]")

    charlie.post("alice", "second")

    expect(page.locator("#chats li").first).to_contain_text("second")
    expect(page).to_have_title(re.compile(r"^\(2\)"))


def test_no_page_is_taller_than_its_window(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    postgres.execute(
        "INSERT INTO users (username, password_hash) SELECT 'friend' || n, '' FROM generate_series(1, 60) AS n"
    )
    for n in range(60):
        alice.post(f"friend{n + 1}", "hello")
    postgres.execute("UPDATE participants SET read_seq = 0")
    for size in ({"width": 1440, "height": 900}, {"width": 360, "height": 740}):
        hers = window(alice, viewport=size)
        for path in ("/", "/chat/friend1", "/users", "/settings"):
            page = hers.open(path)
            assert page.evaluate("document.documentElement.scrollHeight") <= size["height"], path
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], path
            if path == "/":
                assert page.locator("#pane").is_visible() == (size["width"] > 768)


def test_a_server_that_is_down_is_said_and_the_chat_opens_once_it_is_back(
    window: Windows, alice: Person, bob: Person
) -> None:
    bob.post("alice", "hello")
    hers = window(alice)
    hers.excused = ["ERR_FAILED", "fetch"]
    page = hers.page
    page.wait_for_selector("body[data-socket=open]")
    page.route("**/chat/bob", lambda route: route.abort())
    page.locator("#chats a[href='/chat/bob']").click()
    expect(page.get_by_text("Knock does not answer")).to_be_visible(timeout=2000)
    assert page.url.endswith("/")

    page.unroute("**/chat/bob")

    expect(page.locator(".message-body")).to_have_text("hello")
    expect(page.get_by_text("Knock does not answer")).to_be_hidden()


def test_a_phone_shows_in_an_open_chat_that_others_have_written(
    window: Windows, alice: Person, bob: Person, charlie: Person
) -> None:
    bob.post("alice", "hello")
    page = window(alice, viewport={"width": 360, "height": 740}, has_touch=True).open("/chat/bob")
    connected(page)
    expect(page.locator(".back .others")).to_be_hidden()

    charlie.post("alice", "one")
    charlie.post("alice", "two")

    expect(page.locator(".back .others")).to_have_text("2")


def test_a_chat_that_is_clicked_counts_as_read_only_as_far_as_it_is_in_view(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    fill(postgres, 80)
    postgres.execute("UPDATE participants SET read_seq = 45")
    postgres.execute("UPDATE messages SET author_id = (SELECT max(id) FROM users)")
    page = window(alice).page
    page.wait_for_selector("body[data-socket=open]")

    in_list(page, "bob")

    expect(page.locator(".message[data-new]")).to_be_in_viewport()
    page.wait_for_timeout(1000)  # a report of too much would have arrived
    ((read,),) = postgres.execute("SELECT read_seq FROM participants WHERE user_id = (SELECT min(id) FROM users)")
    assert 45 < read < 75


def test_a_chat_comes_back_where_it_was_left(
    window: Windows, alice: Person, bob: Person, charlie: Person, postgres: psycopg.Connection
) -> None:
    charlie.post("alice", "hello")
    for n in range(60):
        bob.post("alice", f"number {n + 1}")
    postgres.execute("UPDATE participants SET read_seq = 30 WHERE read_seq < 60 AND active_at IS NOT NULL")
    page = window(alice).open("/chat/bob")
    connected(page)
    scroller = page.locator(".chat .scroll")
    scroller.evaluate("it => it.scrollTo(0, -300)")
    page.wait_for_timeout(300)
    in_list(page, "charlie")
    in_list(page, "bob")
    page.wait_for_timeout(500)  # it has caught up
    assert scroller.evaluate("it => it.scrollTop") == -300


def test_an_old_chat_that_is_opened_is_in_the_list(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    bob.post("alice", "long ago")
    postgres.execute(
        "INSERT INTO users (username, password_hash) SELECT 'friend' || n, '' FROM generate_series(1, 55) AS n"
    )
    for n in range(55):
        alice.post(f"friend{n + 1}", "hello")
    hers = window(alice)
    page = hers.page
    page.wait_for_selector("body[data-socket=open]")
    expect(page.locator("#chats a[href='/chat/bob']")).to_have_count(0)
    page.get_by_role("button", name="All users").click()
    page.get_by_label("Search for a name").fill("bob")
    expect(page.locator("#people .name")).to_have_text(["bob"])
    page.locator("#people").get_by_role("link", name="bob").click()
    expect(page.locator("#chats [aria-current]")).to_contain_text("long ago")
    page.reload()
    expect(page.locator("#chats [aria-current]")).to_contain_text("long ago")


def test_the_title_counts_what_is_below_the_first_page_of_the_list(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    bob.post("alice", "long ago")
    postgres.execute(
        "INSERT INTO users (username, password_hash) SELECT 'friend' || n, '' FROM generate_series(1, 52) AS n"
    )
    for n in range(52):
        alice.post(f"friend{n + 1}", "hello")
    page = window(alice).open("/")
    connected(page)
    expect(page.locator("#chats a[href='/chat/bob']")).to_have_count(0)
    expect(page).to_have_title("(1) Chats · Knock")

    bob.post("alice", "now")  # moves up into the list

    expect(page.locator("#chats a[href='/chat/bob'] .unread")).to_have_text("2 unread")
    expect(page).to_have_title("(2) Chats · Knock")


def test_on_paper_there_are_the_messages_alone(window: Windows, alice: Person, bob: Person) -> None:
    alice.post("bob", "the words")
    page = window(alice, color_scheme="dark").open("/chat/bob")
    connected(page)
    page.emulate_media(media="print", color_scheme="dark")

    expect(page.locator(".message-body")).to_be_visible()
    for gone in (".list", ".bar", "#composer", ".menu", "#tools"):
        expect(page.locator(gone)).to_be_hidden()
    colours = "it => [getComputedStyle(it).color, getComputedStyle(it).backgroundColor]"
    assert page.locator(".bubble").evaluate(colours) == ["rgb(0, 0, 0)", "rgba(0, 0, 0, 0)"]


def test_a_file_that_is_dropped_beside_its_place_leaves_the_page_as_it_is(window: Windows, alice: Person) -> None:
    page = window(alice).open("/")
    connected(page)

    is_taken = page.evaluate(
        """() => ["dragover", "drop"].map((kind) => {
            const event = new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: new DataTransfer() });
            return !document.body.dispatchEvent(event);
        })"""
    )

    assert is_taken == [True, True]


def test_a_claim_on_somebodys_notifications_shows_on_the_next_page(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    bob.post("alice", "hello")
    page = window(alice).page
    page.wait_for_selector("body[data-socket=open]")
    postgres.execute(
        "INSERT INTO telegram_requests (chat_id, telegram_name, user_id)"
        " SELECT 7, 'Somebody', id FROM users WHERE username = 'alice'"
    )

    in_list(page, "bob")

    expect(page.get_by_title("A Telegram account asks for your notifications")).to_be_visible()


def test_shortcuts_lead_to_chats_and_whatever_is_typed_to_the_composer(
    window: Windows, alice: Person, bob: Person, charlie: Person
) -> None:
    for person in (bob, charlie):
        person.post("alice", "hello")
    page = window(alice).open("/chat/charlie")
    connected(page)

    page.keyboard.press("Alt+ArrowDown")
    expect(page.get_by_role("heading", name="bob", exact=True)).to_be_visible()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.type("typed")
    expect(page.get_by_label("Message to")).to_have_value("typed")
    page.keyboard.press("Alt+ArrowUp")
    expect(page.get_by_role("heading", name="charlie", exact=True)).to_be_visible()
    page.keyboard.press("Control+k")
    page.wait_for_url("**/users")
    expect(page.get_by_label("Search for a name")).to_be_focused()
    page.go_back()
    expect(page.get_by_role("heading", name="charlie", exact=True)).to_be_visible()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.get_by_text("Whose door is it today?")).to_be_visible()


def test_a_long_message_counts_what_is_left_and_a_refusal_goes_once_it_is_changed(
    window: Windows, alice: Person, bob: Person
) -> None:
    page = window(alice).open("/chat/bob")
    connected(page)
    composer = page.get_by_label("Message to")
    composer.fill("x" * 3500)
    expect(page.locator("#left")).to_be_empty()
    composer.fill("x" * 4001)
    expect(page.locator("#left")).to_have_text("-1")
    composer.press("Enter")
    expect(page.get_by_text("a message has at most 4,000")).to_be_visible()

    composer.press("Backspace")

    expect(page.get_by_text("a message has at most 4,000")).to_have_count(0)
    expect(page.locator("#left")).to_have_text("0")


def test_on_a_touch_screen_enter_breaks_the_line(window: Windows, alice: Person, bob: Person) -> None:
    page = window(alice, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True).open("/chat/bob")
    connected(page)
    page.get_by_label("Message to").press_sequentially("one")
    page.get_by_label("Message to").press("Enter")
    page.get_by_label("Message to").press_sequentially("two")
    expect(page.get_by_label("Message to")).to_have_value("one\ntwo")
    page.get_by_role("button", name="Send").tap()
    expect(page.locator(".message[data-seq] .message-body")).to_have_text("one\ntwo")


def test_nothing_is_left_to_do_for_a_page_that_was_left(window: Windows, alice: Person, bob: Person) -> None:
    """What a delay or a pause would still do ends up as a warning in the console, which fails this test."""
    bob.post("alice", "hello")
    page = window(alice).open("/chat/bob")
    connected(page)
    page.get_by_label("Message to").press_sequentially("typed")
    page.keyboard.press("Control+k")
    page.get_by_label("Search for a name").press_sequentially("bo")
    page.keyboard.press("Alt+ArrowUp")
    expect(page.get_by_role("heading", name="bob", exact=True)).to_be_visible()
    page.wait_for_timeout(4500)
