"""What two people do to messages: edit, remove, answer and react, live on both pages and by the keyboard alone."""

from playwright.sync_api import Locator, Page, WebSocketRoute, expect

from tests.browser.conftest import Windows
from tests.browser.test_chat import connected
from tests.site import Person

IN_THE_MENU = (
    "Star, or take the star away",
    "Forward",
    "Copy the link",
    "Select",
    "Mark as unread from here",
    "Remove",
)


def both(window: Windows, alice: Person, bob: Person) -> tuple[Page, Page]:
    pages = window(alice).open("/chat/bob"), window(bob).open("/chat/alice")
    for page in pages:
        connected(page)
    return pages


def row(page: Page, seq: int) -> Locator:
    return page.locator(f".message[data-seq='{seq}']")


def tool(page: Page, seq: int, name: str) -> None:
    row(page, seq).hover()
    if name in IN_THE_MENU:
        page.locator("#tools").get_by_role("button", name="More", exact=True).click()
    page.locator("#more" if name in IN_THE_MENU else "#tools").get_by_role("button", name=name).click()


def test_the_last_message_is_edited_with_arrow_up(window: Windows, alice: Person, bob: Person) -> None:
    alice.post("bob", "frist")
    hers, his = both(window, alice, bob)
    field = hers.locator("#body")

    field.press("ArrowUp")
    expect(field).to_have_value("frist")
    field.press("Escape")
    expect(field).to_have_value("")
    field.press("ArrowUp")
    field.fill("x" * 4001)
    field.press("Enter")
    expect(hers.locator(".send-refused")).to_contain_text("4,001")
    expect(field).to_have_value("x" * 4001)
    field.fill("first")
    field.press("Enter")

    for page in (hers, his):
        expect(row(page, 1).locator(".message-body")).to_have_text("first")
        expect(row(page, 1)).to_have_attribute("data-edited", "")
    expect(field).to_have_value("")
    expect(hers.locator("#about")).to_be_hidden()
    expect(his.locator("#chats .preview")).to_have_text("first")
    row(his, 1).locator("time").click()
    expect(his.locator(".earlier")).to_contain_text("frist")


def test_an_answer_shows_what_it_answers_as_that_is_now(window: Windows, alice: Person, bob: Person) -> None:
    alice.post("bob", "seven or eight?")
    hers, his = both(window, alice, bob)

    tool(his, 1, "Answer")
    expect(his.locator("#about")).to_contain_text("seven or eight?")
    his.locator("#body").fill("eight")
    his.locator("#body").press("Enter")
    for page in (hers, his):
        expect(row(page, 2).locator(".message-quote")).to_contain_text("seven or eight?")
    expect(his.locator("#about")).to_be_hidden()

    tool(hers, 1, "Edit")
    hers.locator("#body").fill("seven or nine?")
    hers.locator("#body").press("Enter")
    for page in (hers, his):
        expect(row(page, 2).locator(".message-quote")).to_contain_text("seven or nine?")

    tool(hers, 1, "Remove")
    hers.locator("#removal").get_by_role("button", name="Keep it").click()
    expect(row(hers, 1)).not_to_have_attribute("data-removed", "")
    tool(hers, 1, "Remove")
    hers.locator("#removal").get_by_role("button", name="Remove").click()
    for page in (hers, his):
        expect(row(page, 1)).to_have_attribute("data-removed", "")
        expect(row(page, 1).locator(".message-body")).to_have_text("")
        expect(row(page, 2).locator(".message-quote")).not_to_contain_text("seven")
    row(his, 2).locator(".message-quote").click()
    expect(his.locator(".message.found")).to_have_attribute("data-seq", "1")
    expect(his).to_have_url(f"{bob.site.url}/chat/alice?around=1")


def test_reactions_are_counted_and_taken_back(window: Windows, alice: Person, bob: Person) -> None:
    alice.post("bob", "we won")
    hers, his = both(window, alice, bob)

    tool(his, 1, "👍")
    for page in (hers, his):
        expect(row(page, 1).locator(".reaction")).to_have_attribute("data-count", "1")
    row(hers, 1).locator(".reaction").click()
    for page, name in ((hers, "alice"), (his, "bob")):
        expect(row(page, 1).locator(".reaction")).to_have_attribute("data-count", "2")
        expect(row(page, 1).locator(".reaction [data-mine]")).to_have_text(name)
    expect(his.locator("#chats .unread")).to_have_count(0)
    row(hers, 1).locator(".reaction").click()
    expect(row(his, 1).locator(".reaction")).to_have_attribute("data-count", "1")
    his.reload()
    expect(row(his, 1).locator(".reaction [data-mine]")).to_have_text("bob")


def test_the_keyboard_alone_reacts_and_answers(window: Windows, alice: Person, bob: Person) -> None:
    alice.post("bob", "hello")
    hers, his = both(window, alice, bob)

    row(his, 1).locator("a").first.focus()
    his.keyboard.press("Tab")
    his.keyboard.press("Enter")
    expect(row(hers, 1).locator(".reaction")).to_have_attribute("data-emoji", "👍")
    expect(row(his, 1).locator("a:has(time)")).to_be_focused()
    row(his, 1).locator("a").first.focus()
    his.keyboard.press("r")
    expect(his.locator("#body")).to_be_focused()
    his.keyboard.type("hello yourself")
    his.keyboard.press("Enter")
    expect(row(hers, 2).locator(".message-quote")).to_have_attribute("data-seq", "1")


def test_a_reaction_or_a_lost_connection_does_not_end_an_edit(window: Windows, alice: Person, bob: Person) -> None:
    alice.post("bob", "frist")
    hers, his = both(window, alice, bob)
    field = hers.locator("#body")
    field.press("ArrowUp")
    field.fill("first")

    tool(his, 1, "👍")
    expect(row(hers, 1).locator(".reaction")).to_have_count(1)
    expect(field).to_have_value("first")
    hers.evaluate("document.body.dataset.socket = 'lost'")
    field.press("Enter")
    expect(field).to_have_value("first")
    hers.evaluate("document.body.dataset.socket = 'open'")
    field.press("Enter")

    expect(row(his, 1).locator(".message-body")).to_have_text("first")
    expect(field).to_have_value("")
    assert his.locator(".message[data-seq]").count() == 1


def test_an_edit_that_meets_a_newer_one_tells_its_author(window: Windows, alice: Person, bob: Person) -> None:
    alice.post("bob", "one")
    hers = window(alice)
    first, second = hers.open("/chat/bob"), hers.tab("/chat/bob")
    for page in (first, second):
        connected(page)
        page.locator("#body").press("ArrowUp")
    first.locator("#body").fill("from the first")
    first.locator("#body").press("Enter")
    expect(row(second, 1).locator(".message-body")).to_have_text("from the first")

    second.locator("#body").fill("from the second")
    second.locator("#body").press("Enter")
    expect(second.locator(".send-refused")).to_contain_text("another place")
    expect(second.locator("#body")).to_have_value("from the second")
    second.locator("#body").press("Enter")
    expect(row(first, 1).locator(".message-body")).to_have_text("from the second")


def test_a_page_that_was_away_catches_up_with_every_kind_of_change(window: Windows, alice: Person, bob: Person) -> None:
    for body in ("edited later", "removed later", "three"):
        alice.post("bob", body)
    bob.http.post("/chat/alice/messages", data={"body": "an answer", "nonce": "n", "reply_to": "2"})
    his = window(bob)
    sockets: list[WebSocketRoute] = []
    is_away = False

    def route(ws: WebSocketRoute) -> None:
        sockets.append(ws)
        if is_away:
            ws.close(code=1013)
        else:
            ws.connect_to_server()

    his.page.route_web_socket("**/ws", route)
    page = his.open("/chat/alice")
    connected(page)
    is_away = True
    sockets[-1].close(code=1013)
    page.wait_for_selector("body[data-socket=lost]")
    alice.http.post("/chat/bob/messages/1", data={"body": "edited"})
    alice.http.post("/chat/bob/messages/2/remove")
    alice.http.post("/chat/bob/messages/3/reactions", data={"emoji": "👍"})
    is_away = False

    expect(row(page, 1).locator(".message-body")).to_have_text("edited")
    expect(row(page, 2)).to_have_attribute("data-removed", "")
    expect(row(page, 3).locator(".reaction")).to_have_attribute("data-emoji", "👍")
    expect(row(page, 4).locator(".message-quote")).not_to_contain_text("removed later")


def test_on_a_touch_screen_a_message_is_tapped_or_drawn_aside(window: Windows, alice: Person, bob: Person) -> None:
    alice.post("bob", "hello")
    his = window(bob, has_touch=True, is_mobile=True, viewport={"width": 360, "height": 740})
    page = his.open("/chat/alice")
    connected(page)

    time = row(page, 1).locator("time").bounding_box()
    assert time is not None
    page.touchscreen.tap(time["x"] + 5, time["y"] + 5)
    page.locator("#tools").get_by_role("button", name="👍").tap()
    expect(row(page, 1).locator(".reaction")).to_have_attribute("data-count", "1")
    place = row(page, 1).locator(".message-body").bounding_box()
    assert place is not None
    touch = his.context.new_cdp_session(page)
    points = [{"x": place["x"] + 5 + step, "y": place["y"] + 5} for step in (0, 50, 100)]
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points[:1]})
    for point in points[1:]:
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator("#about")).to_contain_text("hello")
    alice.post("bob", "a long text " * 20)
    row(page, 2).locator(".message-body").tap()
    page.locator("#tools").get_by_role("button", name="Answer").tap()
    expect(page.get_by_role("button", name="Give up")).to_be_in_viewport()
    assert page.evaluate("document.querySelector('.chat').scrollWidth <= innerWidth")
    page.get_by_role("button", name="Give up").tap()
    bob.post("alice", "hi")
    row(page, 3).locator(".message-body").tap()
    for button in page.locator("#tools button").all():
        expect(button).to_be_in_viewport(ratio=1)


def test_people_are_called_by_the_names_that_they_chose(window: Windows, alice: Person, bob: Person) -> None:
    bob.http.post("/settings/myself", data={"display_name": "Bob $& Lake", "hue": "", "language": ""})
    bob.post("alice", "his")
    hers, his = both(window, alice, bob)
    with bob.socket() as phone:
        phone.send(action="react", to="alice", seq="1", emoji="👍")
        phone.send(action="send", to="alice", body="an answer", nonce="an-answer-of-bob", reply_to="1")
        for page in (hers, his):
            expect(page.locator(".message-quote b")).to_have_text("Bob $& Lake")
            expect(row(page, 1).locator(".who [data-author=bob]")).to_have_text("Bob $& Lake")
        phone.send(action="typing", to="alice")
        expect(hers.locator(".about .typing")).to_have_text("Bob $& Lake is typing…")
    hers.reload()
    expect(hers.locator(".message-quote b")).to_have_text("Bob $& Lake")


def test_a_formatted_message_is_edited_as_it_was_typed(window: Windows, alice: Person, bob: Person) -> None:
    alice.post("bob", "*bold* move")
    hers, his = both(window, alice, bob)
    expect(row(his, 1).locator("strong")).to_have_text("bold")

    hers.locator("#body").press("ArrowUp")
    expect(hers.locator("#body")).to_have_value("*bold* move")
    hers.locator("#body").fill("```\ncode\n```\n> quoted\n_fine_")
    hers.locator("#body").press("Enter")

    for page in (hers, his):
        expect(row(page, 1).locator("pre code")).to_have_text("code")
        expect(row(page, 1).locator("blockquote")).to_have_text("quoted")
        expect(row(page, 1).locator("em")).to_have_text("fine")
    expect(hers.locator("#about")).to_be_hidden()
