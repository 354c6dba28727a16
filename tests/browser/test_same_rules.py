"""`tests/faults/page.py` follows the rules of `static/app.js`: both go through one story and hold the same."""

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import aiohttp
import psycopg
import pytest
from playwright.sync_api import Page as Tab

from tests.browser.conftest import Background, Edit, Windows
from tests.chat.test_messages import fill
from tests.faults import page as pages
from tests.faults.page import Page, Shown, Written
from tests.faults.parts import Somebody
from tests.faults.proxy import Proxy
from tests.site import Person, Site, eventually

HELD = """() => [
  [...document.querySelectorAll("[id^=messages-] > .message")].map((message) => [
    Number(message.dataset.seq), Number(message.dataset.version), message.dataset.author, message.dataset.nonce,
    message.querySelector(".message-body").textContent,
  ]),
  Number(document.querySelector("#cursor").value),
  Number(document.querySelector("#first").value),
  JSON.parse(localStorage.getItem(`knock-outbox-${document.body.dataset.me}`)).map((item) => item.body),
]"""
DEAFEN = """() => {
  document.body.addEventListener("htmx:ws:before:message:incoming", (event) => {
    if (document.body.isDeaf) event.preventDefault();
  });
}"""
HEAR = """async (frame) => {
  const { connection } = document.body._htmx.ws;
  document.body.isDeaf = false;
  connection.socket.dispatchEvent(new MessageEvent("message", { data: frame }));
  await connection.receiving;
  document.body.isDeaf = true;
}"""


class Held(NamedTuple):
    """What a page holds."""

    messages: list[Shown]
    cursor: int
    first_seq: int
    outbox: list[str]


class DeafPage(Page):
    """A page that can put frames aside instead of taking them, and whose HTTP sends can fail."""

    unheard: list[str] | None = None
    posts: bool = True

    async def post(self, item: Written) -> bool:
        return self.posts and await super().post(item)

    async def _take_frame(self, frame: aiohttp.WSMessage) -> None:
        if self.unheard is None:
            await super()._take_frame(frame)
        elif frame.type is aiohttp.WSMsgType.TEXT and 'id="message-' in frame.data:
            self.unheard.append(frame.data)


class Both:
    """Alice's chat with Bob in two tabs, one in a browser and one in Python, behind the same proxy."""

    def __init__(self, tab: Tab, model: DeafPage, background: Background) -> None:
        self.tab = tab
        self.model = model
        self.do = background.do

    async def take(self, text: str) -> None:
        self.model.take(text)

    def deafen(self) -> list[str]:
        """From now on put frames with messages aside, into the list that is returned."""
        self.tab.evaluate("document.body.isDeaf = true")
        self.model.unheard = []
        return self.model.unheard

    def hear(self, frame: str) -> None:
        self.tab.evaluate(HEAR, frame)
        self.do(self.take(frame))
        self.are_alike()

    def listen(self) -> None:
        self.tab.evaluate("document.body.isDeaf = false")
        self.model.unheard = None

    def write(self, body: str) -> None:
        """Send a message from each, first from the browser."""
        self.tab.get_by_label("Message to").fill(body)
        self.tab.get_by_label("Message to").press("Enter")
        self.do(self.model.write(body))

    def are_alike(self, patience: float = 10) -> None:
        with suppress(AssertionError):
            eventually(lambda: self._held_by_tab() == self._held_by_model(), patience)
        assert self._held_by_tab() == self._held_by_model()

    def hold(self, *last: str, patience: float = 10) -> None:
        """Wait until both hold the same, with these bodies at the end and nothing in the outbox."""

        def is_so() -> bool:
            held = self._held_by_model()
            return [message.body for message in held.messages[-len(last) :]] == list(last) and not held.outbox

        eventually(is_so, patience)
        self.are_alike(patience)

    def _held_by_tab(self) -> Held:
        messages, cursor, first_seq, outbox = self.tab.evaluate(HELD)
        return Held([Shown(*message) for message in messages], cursor, first_seq, outbox)

    def _held_by_model(self) -> Held:
        model = self.model
        return Held(model.list, model.cursor, model.first_seq, [item.body for item in model.outbox.values()])


@pytest.fixture
def proxy(site: Site) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", int(site.environ["PORT"]))).running() as proxy:
        yield proxy


@pytest.fixture
def both(
    window: Windows,
    proxy: Proxy,
    alice: Person,
    bob: Person,
    postgres: psycopg.Connection,
    background: Background,
) -> Both:
    fill(postgres, 120)
    url = f"http://127.0.0.1:{proxy.port}"
    hers = window(alice)
    hers.excused = [
        "WebSocket",
        "htmx:ws:error",
        "htmx:error",
        "ERR_CONNECTION",
        "ERR_EMPTY_RESPONSE",
        "ERR_FAILED",
        "fetch",
    ]
    hers.page.goto(f"{url}/chat/bob")
    hers.page.wait_for_selector("body[data-socket=open]")
    hers.page.evaluate(DEAFEN)

    async def opened() -> DeafPage:
        http = await background.stack.enter_async_context(pages.browser())
        cookie = "; ".join(f"{name}={value}" for name, value in alice.cookies.items())
        page = DeafPage(http, Somebody(0, "alice", cookie), "bob", url)
        await page.load()
        await background.stack.enter_async_context(page.live())
        return page

    return Both(hers.page, background.do(opened()), background)


def test_the_page_in_python_and_the_page_in_the_browser_hold_the_same(
    both: Both, proxy: Proxy, alice: Person, bob: Person, edit: Edit
) -> None:
    model = both.model
    both.hold("number 120")
    assert (model.first_seq, model.cursor) == (71, 120)

    # Messages in order.
    bob.post("alice", "one")
    bob.post("alice", "two")
    both.hold("one", "two")

    # Out of order, and twice; an older version after a newer one.
    frames = both.deafen()
    for number, body in enumerate(("three", "four", "five"), 1):
        bob.post("alice", body)
        eventually(lambda: len(frames) == number)  # noqa: B023
    edit(bob, alice, 124, "FOUR")
    eventually(lambda: len(frames) == 4)
    three, four, five, edited = frames
    for frame in (five, five, edited, four):
        both.hear(frame)
        assert model.cursor == 122
    for frame in (three, four, three):
        both.hear(frame)
        assert model.cursor == 126
    both.hold("two", "three", "FOUR", "five")

    # A change above the gap.
    older_before = both.do(model.fetch("/chat/bob/messages?before=71"))
    edit(alice, bob, 60, "SIXTY")
    eventually(lambda: len(frames) == 5)
    both.hear(frames[4])
    assert (model.cursor, model.first_seq, len(model.list)) == (127, 71, 55)

    # A cut, and what was written and changed meanwhile.
    both.listen()
    proxy.refuse()
    bob.post("alice", "six")
    edit(bob, alice, 123, "THREE")
    bob.post("alice", "seven")
    proxy.accept()
    both.hold("THREE", "FOUR", "five", "six", "seven", patience=30)
    assert model.cursor == 130

    # A send that only its frame acknowledges, and one that is refused.
    both.tab.route("**/chat/bob/messages", lambda route: route.abort())
    model.posts = False
    both.write("eight")
    both.hold("seven", "eight", "eight")
    both.write("x" * 4001)
    eventually(lambda: model.refused)
    both.hold("seven", "eight", "eight")
    both.tab.get_by_label("Message to").fill("")
    both.tab.unroute("**/chat/bob/messages")
    model.posts = True

    # Sends whose acknowledgements are lost, and which are sent again with their nonces.
    both.deafen()
    both.write("nine")
    eventually(lambda: bob.page("/chat/alice").bodies[-2:] == ["nine", "nine"])
    both.are_alike()
    assert len(model.outbox) == 1
    eventually(lambda: not model.outbox, patience=20)
    both.listen()
    both.hold("eight", "eight", "nine", "nine", patience=30)

    # Older messages; their answer is older than the change above the gap.
    assert older_before is not None
    both.tab.route("**/messages?before=71", lambda route: route.fulfill(body=older_before, content_type="text/html"))
    both.tab.locator(".chat .scroll").evaluate("it => it.scrollTo(0, -it.scrollHeight)")
    both.do(both.take(older_before))
    both.hold("eight", "eight", "nine", "nine")
    assert (model.first_seq, model.shown[60].body, model.shown[59].body) == (21, "SIXTY", "number 59")
    both.tab.locator(".chat .scroll").evaluate("it => it.scrollTo(0, -it.scrollHeight)")
    both.do(model.load_older())
    both.hold("eight", "eight", "nine", "nine")
    assert [message.seq for message in model.list] == list(range(1, 132))
