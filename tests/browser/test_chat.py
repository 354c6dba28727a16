"""Two people, two real browsers."""

import re
import time

import psycopg
from playwright.sync_api import Page, expect

from tests import site as sites
from tests.browser.conftest import Edit, Windows
from tests.chat.test_messages import fill
from tests.site import PASSWORD, Person, eventually


def write(page: Page, text: str) -> None:
    page.get_by_label("Message to").fill(text)
    page.get_by_label("Message to").press("Enter")


def shown(page: Page) -> list[str]:
    return page.locator(".message[data-seq] .message-body").all_inner_texts()


def connected(page: Page) -> None:
    page.wait_for_selector("body[data-socket=open]")


def test_two_people_register_find_each_other_and_chat(window: Windows) -> None:
    windows = {name: window() for name in ("Alice", "Bob")}
    for name, it in windows.items():
        it.open("/register")
        it.page.get_by_label("Username").fill(name)
        it.page.get_by_label("Password").fill(PASSWORD)
        it.page.get_by_role("button", name="Register").click()
        expect(it.page.get_by_text("Your account is ready")).to_be_visible()
        expect(it.page.get_by_label("Username")).to_have_value(name)
        it.page.get_by_label("Password").fill(PASSWORD)
        it.page.get_by_role("button", name="Log in").click()
    alice, bob = windows["Alice"].page, windows["Bob"].page
    alice.get_by_role("button", name="All users").click()
    alice.get_by_role("link", name="Bob").click()
    connected(alice)
    connected(bob)

    write(alice, "Hello Bob <i>!</i>")

    expect(alice.locator(".message-body")).to_have_text("Hello Bob <i>!</i>")
    expect(alice.get_by_label("Message to")).to_have_value("")
    expect(bob.locator("#chats .preview")).to_have_text("Hello Bob <i>!</i>")
    assert bob.title().startswith("(1)")
    bob.locator("#chats a").click()
    connected(bob)
    write(bob, "Hello Alice")
    expect(alice.locator(".message-body")).to_have_text(["Hello Bob <i>!</i>", "Hello Alice"])
    expect(alice.locator("#chats .preview")).to_have_text("Hello Alice")


def test_two_tabs_of_one_person_stay_alike(window: Windows, alice: Person, bob: Person) -> None:
    hers = window(alice)
    first, second = hers.open("/chat/bob"), hers.tab("/chat/bob")
    connected(first)
    connected(second)

    def shown(page: Page, *bodies: str) -> None:
        expect(page.locator(".message[data-seq] .message-body")).to_have_text(bodies)

    write(first, "one")
    shown(second, "one")  # the tabs may be served by different processes, so wait before the next one
    write(second, "two")
    shown(first, "one", "two")
    bob.post("alice", "three")

    shown(first, "one", "two", "three")
    shown(second, "one", "two", "three")


def test_a_new_message_moves_its_chat_up_without_a_reload(
    window: Windows, alice: Person, bob: Person, charlie: Person
) -> None:
    bob.post("alice", "first")
    charlie.post("alice", "second")
    page = window(alice).page
    expect(page.locator("#chats .name")).to_have_text(["charlie", "bob"])
    connected(page)

    bob.post("alice", "third")

    expect(page.locator("#chats .name")).to_have_text(["bob", "charlie"])
    expect(page.locator("#chats .unread")).to_have_text([re.compile("^2"), re.compile("^1")])


def test_reading_clears_the_count(window: Windows, alice: Person, bob: Person) -> None:
    hers = window(alice)
    chat, chats = hers.open("/chat/bob"), hers.tab("/")
    connected(chat)
    connected(chats)
    chat.bring_to_front()

    bob.post("alice", "hello")

    expect(chat.locator(".message-body")).to_have_text("hello")
    expect(chats.locator("#chats .name")).to_have_text("bob")
    expect(chats.locator("#chats .unread")).to_have_count(0)


def test_enter_sends_and_shift_enter_breaks_a_line(window: Windows, alice: Person, bob: Person) -> None:
    page = window(alice).open("/chat/bob")
    connected(page)
    composer = page.get_by_label("Message to")
    small = composer.bounding_box()

    composer.press_sequentially("one")
    composer.press("Shift+Enter")
    composer.press_sequentially("two")
    large = composer.bounding_box()
    composer.press("Enter")

    expect(page.locator(".message[data-seq] .message-body")).to_have_text("one\ntwo")
    assert small is not None
    assert large is not None
    assert large["height"] > small["height"]
    expect(composer).to_be_focused()
    composer.press("Enter")  # nothing to send
    assert shown(page) == ["one\ntwo"]


def test_a_refused_message_comes_back_into_the_composer_with_the_reason(
    window: Windows, alice: Person, bob: Person
) -> None:
    page = window(alice).open("/chat/bob")
    connected(page)

    write(page, "x" * 4001)

    expect(page.locator(".send-refused")).to_contain_text("4,001 characters")
    expect(page.get_by_label("Message to")).to_have_value("x" * 4001)
    expect(page.locator("#pending li")).to_have_count(0)


def test_the_window_scrolls_back_to_the_first_message_without_a_jump(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    fill(postgres, 180)
    page = window(alice).open("/chat/bob")
    connected(page)
    expect(page.locator(".message-body").last).to_have_text("number 180")
    expect(page.locator(".message-body").last).to_be_in_viewport()
    assert len(shown(page)) < 180

    scroller = page.locator(".chat .scroll")
    jumps = []
    while not page.get_by_text("This is where your chat").is_visible():
        scroller.evaluate("it => it.scrollBy(0, -400)")
        page.wait_for_timeout(30)
        mark = page.evaluate(
            """() => { const top = document.querySelector(".chat .scroll").getBoundingClientRect().top;
            const messages = [...document.querySelectorAll(".message")];
            const it = messages.find((it) => it.getBoundingClientRect().top > top + 50);
            return [it.id, it.getBoundingClientRect().top] }"""
        )
        page.wait_for_timeout(120)  # older messages may arrive
        after = page.evaluate("id => document.getElementById(id).getBoundingClientRect().top", mark[0])
        jumps.append(abs(after - mark[1]))

    assert shown(page) == [f"number {n}" for n in range(1, 181)]
    assert max(jumps) < 2

    place = page.locator(".message").nth(3).bounding_box()
    bob.post("alice", "an arrival")
    expect(page.locator(".message")).to_have_count(181)
    assert page.locator(".message").nth(3).bounding_box() == place


def test_an_edit_replaces_its_message_in_both_pages(window: Windows, alice: Person, bob: Person, edit: Edit) -> None:
    for body in ("one", "tow", "three"):
        alice.post("bob", body)
    hers, his = window(alice).open("/chat/bob"), window(bob).open("/chat/alice")
    connected(hers)
    connected(his)

    edit(alice, bob, 2, "two")

    for page, own in ((hers, 3), (his, 0)):
        expect(page.locator(".message[data-seq] .message-body")).to_have_text(["one", "two", "three"])
        expect(page.locator(".message[data-edited] .message-body")).to_have_text("two")
        expect(page.locator(".message[data-mine]")).to_have_count(own)


def test_a_change_of_an_older_message_is_not_inserted_above_a_gap(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection, edit: Edit
) -> None:
    fill(postgres, 200)
    page = window(bob).open("/chat/alice")
    connected(page)
    expect(page.locator("#first")).to_have_value("151")

    edit(alice, bob, 20, "edited")
    expect(page.locator("#cursor")).to_have_value("201")  # it has arrived

    assert shown(page) == [f"number {n}" for n in range(151, 201)]
    for first in (101, 51, 1):
        page.locator(".chat .scroll").evaluate("it => it.scrollTo(0, -it.scrollHeight)")
        expect(page.locator("#first")).to_have_value(str(first))
    assert shown(page) == [f"number {n}" if n != 20 else "edited" for n in range(1, 201)]


def test_an_arrival_keeps_the_newest_in_view(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    fill(postgres, 50)
    page = window(alice).open("/chat/bob")
    connected(page)

    for n in range(5):
        bob.post("alice", f"arrival {n}")

    expect(page.locator(".message-body").last).to_have_text("arrival 4")
    expect(page.locator(".message-body").last).to_be_in_viewport()


def test_times_and_days_are_the_readers_own(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    fill(postgres, 2)
    postgres.execute("UPDATE messages SET created_at = '2024-03-09T22:30Z' WHERE seq = 1")
    postgres.execute("UPDATE messages SET created_at = '2024-03-10T01:15Z' WHERE seq = 2")

    page = window(alice, timezone_id="Asia/Tokyo", locale="en-GB").open("/chat/bob")
    expect(page.locator(".message time")).to_have_text(["07:30", "10:15"])
    assert page.locator(".message[data-day]").count() == 1  # both are on one day in Tokyo
    page = window(alice, timezone_id="Europe/London", locale="en-GB").open("/chat/bob")
    expect(page.locator(".message time")).to_have_text(["22:30", "01:15"])
    assert page.locator(".message[data-day]").count() == 2


def test_the_day_of_what_is_in_view_floats_while_one_scrolls(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    fill(postgres, 50)
    postgres.execute("UPDATE messages SET created_at = now() - interval '1 day' WHERE seq <= 40")
    page = window(alice, locale="en-GB").open("/chat/bob")
    connected(page)
    expect(page.locator("#day")).to_have_text("")

    page.locator(".chat .scroll").evaluate("it => it.scrollBy(0, -900)")

    expect(page.locator("#day")).to_have_text("Yesterday")
    expect(page.locator("#day")).to_have_text("")  # it fades


def test_a_killed_server_loses_nothing(environ: dict[str, str], clean: None, window: Windows) -> None:
    with sites.running(environ, WEB_PROCESSES="1") as site:
        alice, bob = site.person("alice"), site.person("bob")
        hers, his = window(alice, site=site), window(bob, site=site)
        for it in (hers, his):
            it.excused = [
                "WebSocket",
                "htmx:ws:error",
                "htmx:error",
                "ERR_CONNECTION_REFUSED",
                "ERR_CONNECTION_RESET",
                "fetch",
            ]
        one, other = hers.open("/chat/bob"), his.open("/chat/alice")
        connected(one)
        connected(other)
        write(one, "before")
        expect(other.locator(".message-body")).to_have_text("before")

        site.kill()
        write(one, "meanwhile")
        expect(one.locator("#pending .message-body")).to_have_text("meanwhile")
        expect(one.locator("#pending li")).to_contain_text("Not sent yet", timeout=10_000)
        one.wait_for_selector("body[data-socket=lost]")
        site.start()

        for page in (one, other):
            expect(page.locator(".message[data-seq] .message-body")).to_have_text(
                ["before", "meanwhile"], timeout=20_000
            )
        expect(one.locator("#pending li")).to_have_count(0)
        connected(one)
        write(other, "after")
        expect(one.locator(".message[data-seq] .message-body")).to_have_text(["before", "meanwhile", "after"])


def test_what_was_not_sent_survives_a_reload(window: Windows, alice: Person, bob: Person) -> None:
    hers = window(alice)
    hers.excused = ["ERR_FAILED", "fetch", "ERR_ABORTED"]
    page = hers.page
    hers.context.route(
        "**/chat/bob/messages", lambda route: route.abort() if route.request.method == "POST" else route.continue_()
    )
    page.route_web_socket("**/ws", lambda socket: None)  # it opens and swallows every frame
    hers.open("/chat/bob")

    write(page, "swallowed")
    expect(page.locator("#pending li")).to_contain_text("Not sent yet", timeout=10_000)
    page.reload()
    expect(page.locator("#pending .message-body")).to_have_text("swallowed")
    hers.context.unroute_all()

    eventually(lambda: bob.page("/chat/alice").bodies == ["swallowed"])
    expect(page.locator("#pending li")).to_have_count(0)
    expect(page.locator(".message[data-seq] .message-body")).to_have_text("swallowed")
    time.sleep(6)  # longer than the outbox waits until a retry
    assert bob.page("/chat/alice").bodies == ["swallowed"]


def test_logging_out_elsewhere_in_the_browser_is_said_and_the_draft_stays(
    window: Windows, alice: Person, bob: Person
) -> None:
    hers = window(alice)
    page = hers.open("/chat/bob")
    connected(page)
    page.get_by_label("Message to").fill("half a thought")

    other = hers.tab("/")
    other.get_by_role("button", name="Log out").click()

    expect(page.get_by_text("You are logged out")).to_be_visible()
    expect(page.get_by_label("Message to")).to_have_value("half a thought")


def test_a_page_that_comes_back_logged_out_says_so_and_keeps_what_is_typed(
    environ: dict[str, str], clean: None, window: Windows
) -> None:
    with sites.running(environ, WEB_PROCESSES="1", SESSION_MAX_AGE="8") as site:
        alice, _ = site.person("alice"), site.person("bob")
        hers = window(alice, site=site)
        hers.excused = ["WebSocket", "htmx", "ERR_CONNECTION", "401"]
        page = hers.open("/chat/bob")
        connected(page)
        page.get_by_label("Message to").fill("half a thought")

        site.kill()
        page.wait_for_timeout(8_000)  # the session ends meanwhile
        site.start()

        expect(page.get_by_text("You are logged out")).to_be_visible(timeout=20_000)
        assert page.url.endswith("/chat/bob")
        expect(page.get_by_label("Message to")).to_have_value("half a thought")


def test_all_users_are_searched_while_one_types(window: Windows, alice: Person, bob: Person, charlie: Person) -> None:
    page = window(alice).open("/users")
    expect(page.locator("#people .name")).to_have_text(["alice", "bob", "charlie"])

    page.get_by_role("searchbox").press_sequentially("harl")

    expect(page.locator("#people .name")).to_have_text(["charlie"])
    page.get_by_role("searchbox").press_sequentially("xxx")
    expect(page.locator("#people")).to_contain_text("Nobody here has “harlxxx”")


def test_all_users_load_as_one_scrolls(window: Windows, alice: Person, postgres: psycopg.Connection) -> None:
    postgres.execute(
        "INSERT INTO users (username, password_hash) SELECT 'user' || n, '' FROM generate_series(1, 160) n"
    )
    page = window(alice).open("/users")

    while page.locator("#people .name").count() < 161:
        page.mouse.wheel(0, 4000)
        page.wait_for_timeout(50)

    names = page.locator("#people .name").all_inner_texts()
    assert names == sorted(["alice", *(f"user{n}" for n in range(1, 161))])


def test_somebody_who_types_is_seen_to(window: Windows, alice: Person, bob: Person) -> None:
    bob.post("alice", "hello")
    one, other = window(alice).open("/chat/bob"), window(bob).open("/chat/alice")
    connected(one)
    connected(other)

    one.get_by_label("Message to").press_sequentially("hel")

    expect(other.locator(".typing")).to_contain_text("alice is typing")
