"""Search as somebody sees it: type, choose a hit, and be at its place."""

import psycopg
from playwright.sync_api import expect

from tests.browser.conftest import Windows
from tests.browser.test_actions import row
from tests.browser.test_chat import connected
from tests.chat.test_messages import fill
from tests.site import Person


def test_a_hit_leads_to_its_place_which_is_live(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    fill(postgres, 300)
    page = window(alice).open("/")
    connected(page)
    page.get_by_role("link", name="Search").click()
    page.locator("#q").fill('"number 7" from:alice')
    page.locator("#q").press("Enter")
    expect(page.locator(".hits mark").first).to_have_text("number 7")
    page.locator("#q").fill("number 299")
    page.locator("#q").press("Enter")
    expect(page.locator(".hits a")).to_have_count(1)
    page.locator(".hits a").click()
    expect(row(page, 299)).to_be_in_viewport()
    expect(row(page, 299)).to_have_class("message by-0 found")
    bob.post("alice", "live")
    expect(row(page, 301)).to_be_visible()

    page.locator(".menu summary").click()
    page.get_by_role("link", name="Search in this chat").click()
    page.locator("#q").fill("from:nobody")
    page.locator("#q").press("Enter")
    expect(page.get_by_role("alert").filter(has_text="Nobody here is called")).to_be_visible()
    expect(page.locator("#q")).to_have_value("from:nobody")
