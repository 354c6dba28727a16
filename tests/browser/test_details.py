"""Small things that one notices in a day of use."""

from datetime import UTC, datetime

import psycopg
from playwright.sync_api import expect

from tests.browser.conftest import Windows
from tests.browser.test_chat import connected
from tests.site import PASSWORD, Person


def test_a_wrong_password_in_the_settings_is_in_view_and_in_focus(window: Windows, alice: Person) -> None:
    hers = window(alice)
    hers.excused = ["422"]
    page = hers.open("/settings")
    page.get_by_label("Current password").fill("not the password")
    page.get_by_label("New password").fill("another good password")
    page.get_by_role("button", name="Change the password").click()

    expect(page.get_by_text("That is not your current password.")).to_be_in_viewport()
    expect(page.get_by_label("Current password")).to_be_focused()
    answer = page.goto(page.url)  # the address can be opened again
    assert answer is not None
    assert answer.status == 200


def test_after_a_wrong_password_the_password_is_in_focus(window: Windows, alice: Person) -> None:
    stranger = window()
    stranger.excused = ["422"]
    page = stranger.open("/login")
    page.get_by_label("Username").fill("alice ")  # as the keyboards of phones end a word
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_label("Password")).to_be_focused()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(alice.site.url + "/")

    page.goto(alice.site.url + "/login")  # who is signed in has no use for it
    page.wait_for_url(alice.site.url + "/")


def test_copied_messages_come_without_their_times(window: Windows, alice: Person, bob: Person) -> None:
    for body in ("one", "two"):
        bob.post("alice", body)
    page = window(alice).open("/chat/bob")
    connected(page)

    page.evaluate("getSelection().selectAllChildren(document.querySelector('.messages'))")

    text = page.evaluate("getSelection().toString()")
    assert "one" in text
    assert "two" in text
    assert ":" not in text.replace("bob:", "")


def test_a_tab_that_is_open_overnight_names_the_days_anew(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    bob.post("alice", "good night")
    hers = window(alice, locale="en-GB", timezone_id="UTC")
    hers.page.clock.install(time=datetime.now(UTC))
    page = hers.open("/chat/bob")
    connected(page)
    expect(page.locator(".message")).to_have_attribute("data-day", "Today")
    expect(page.locator(".htmx-request")).to_have_count(0)  # one that is under way would be out of time

    page.clock.fast_forward("24:00:00")

    expect(page.locator(".message")).to_have_attribute("data-day", "Yesterday")
    expect(page.locator("#chats time")).not_to_contain_text(":")


def test_on_a_small_phone_the_bar_is_one_line_whatever_ones_name_is(window: Windows, alice: Person) -> None:
    alice.http.post(
        "/settings/myself", data={"display_name": "A very long name, as some are", "hue": "", "language": "ru"}
    )
    page = window(alice, viewport={"width": 360, "height": 740}).open("/")
    connected(page)
    bar = page.locator(".bar").bounding_box()
    assert bar is not None
    assert bar["height"] < 80
    assert page.evaluate("document.documentElement.scrollWidth") == 360
