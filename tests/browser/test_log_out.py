"""After Log out, nobody who sits down at the same browser sees anything of it."""

import os

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Window
from tests.site import Person, Site


@pytest.mark.parametrize("script", [True, False], ids=["JavaScript", "no JavaScript"])
def test_back_shows_no_private_page(chromium: Browser, site: Site, alice: Person, bob: Person, script: bool) -> None:
    bob.post("alice", "for alice alone")
    kept = chromium.browser_type.launch(
        executable_path=os.environ.get("CHROMIUM"),
        args=["--no-sandbox", "--disable-gpu"],
        ignore_default_args=["--disable-back-forward-cache"],  # as people's browsers have it
    )
    it = Window(kept.new_context(java_script_enabled=script), site)
    it.log_in("alice")
    page = it.page
    page.wait_for_url(site.url + "/")
    page.goto(site.url + "/settings")
    page.goto(site.url + "/")
    page.locator("#chats a").click()
    expect(page.locator(".message-body")).to_have_text("for alice alone")

    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(site.url + "/login")

    for _ in range(3):
        page.go_back()
        expect(page.get_by_role("button", name="Log in")).to_be_visible()
        assert "for alice alone" not in page.content()
    it.end()
    kept.close()
