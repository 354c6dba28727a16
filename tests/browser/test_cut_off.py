"""A tab that the server cut off for good says why, and what is written in it is still sent."""

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.browser.conftest import Windows
from tests.browser.test_chat import write
from tests.site import Person
from web.live.socket import CROWDED, TOO_FAST


@pytest.mark.parametrize(("code", "said"), [(CROWDED, "more than 20 tabs"), (TOO_FAST, "too much at once")])
def test_a_tab_that_was_cut_off_says_why(window: Windows, alice: Person, bob: Person, code: int, said: str) -> None:
    it = window(alice)
    it.excused.append("Connection not open")  # typing has nowhere to go
    opened: list[WebSocketRoute] = []

    def cut_off(socket: WebSocketRoute) -> None:
        opened.append(socket)
        socket.close(code=code)

    it.page.route_web_socket("**/ws", cut_off)
    page = it.open("/chat/bob")
    expect(page.get_by_text(said)).to_be_visible()
    page.wait_for_timeout(3000)
    assert len(opened) == 1

    write(page, "sent all the same")

    expect(page.locator(".message[data-seq] .message-body")).to_have_text("sent all the same")
    expect(page.locator(".pending")).to_have_count(0)
