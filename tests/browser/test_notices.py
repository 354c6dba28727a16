"""Notices of the device: asked for, shown once, and only while no tab is in view."""

import json

import psycopg
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Window, Windows
from tests.browser.test_chat import connected
from tests.notifications.test_push import FCM, Browser, owners
from tests.site import Person, eventually

# Headless Chromium shows all of its pages, has nobody to allow notices, and no push service; the notices are real.
PRETEND = """
    Notification.requestPermission = async () => { localStorage.asked = 'yes'; return 'granted' }
    Object.defineProperty(Notification, 'permission', { get: () => localStorage.asked ? 'granted' : 'default' })
    window.isHidden = false
    Object.defineProperty(document, 'hidden', { get: () => window.isHidden })
    window.hide = (it) => { window.isHidden = it; document.dispatchEvent(new Event('visibilitychange')) }
    window.inView = async () => (await navigator.locks.query()).held.filter((it) => it.name === 'knock-in-view').length
    window.shown = async () => {
        const registration = await navigator.serviceWorker.getRegistration()
        return (await registration?.getNotifications() ?? []).map((it) => [it.title, it.body])
    }
    PushManager.prototype.getSubscription = async () => window.subscription ?? null
    PushManager.prototype.subscribe = async ({ userVisibleOnly, applicationServerKey }) => {
        const key = applicationServerKey.replaceAll('-', '+').replaceAll('_', '/')
        return window.subscription = {
            endpoint: 'https://fcm.googleapis.com/fcm/send/abc',
            options: { applicationServerKey: Uint8Array.from(atob(key), (it) => it.charCodeAt(0)).buffer },
            toJSON() { return { endpoint: this.endpoint, keys: KEYS } },
            unsubscribe: async () => { window.subscription = null },
        }
    }
"""

SLOW = """() => {
    const show = ServiceWorkerRegistration.prototype.showNotification
    window.isAsked = window.isShown = false
    const gate = new Promise((open) => window.show = open)
    ServiceWorkerRegistration.prototype.showNotification = async function (...all) {
        window.isAsked = true
        await gate
        await show.apply(this, all)
        window.isShown = true
    }
}"""


def prepare(window: Window) -> None:
    browser = Browser()
    keys = {"p256dh": browser.p256dh, "auth": browser.auth}
    window.context.grant_permissions(["notifications"])
    window.context.add_init_script(PRETEND.replace("KEYS", json.dumps(keys)))


def with_notices(window: Window) -> Page:
    """The settings, where they were switched on."""
    prepare(window)
    page = window.open("/settings")
    connected(page)
    page.get_by_role("button", name="Show notices on this device").click()
    expect(page.get_by_role("button", name="No more notices on this device")).to_be_visible()
    return page


def test_a_device_tells_of_new_messages_while_no_tab_is_in_view(
    window: Windows, alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    hers = window(alice)
    prepare(hers)
    page = hers.open("/settings")
    connected(page)
    assert page.evaluate("Notification.permission") == "default"  # nobody asks before one wants it
    page.get_by_role("button", name="Show notices on this device").click()
    expect(page.get_by_role("button", name="No more notices on this device")).to_be_visible()
    eventually(lambda: owners(postgres) == [("alice", FCM)])
    other = hers.tab("/")
    connected(other)
    eventually(lambda: page.evaluate("inView()") == 2)

    page.evaluate("hide(true)")
    eventually(lambda: page.evaluate("inView()") == 1)
    bob.post("alice", "seen in the other tab")
    expect(page.locator("#chats .unread")).to_have_text("1 unread")
    other.evaluate("hide(true)")
    eventually(lambda: page.evaluate("inView()") == 0)
    bob.post("alice", "for the notice")
    eventually(lambda: page.evaluate("shown()") == [["bob", "for the notice"]])

    other.evaluate("hide(false)")
    other.locator("#chats a").click()  # who reads it needs no notice
    eventually(lambda: page.evaluate("shown()") == [])
    other.evaluate("hide(true)")
    held: list[Route] = []
    page.route("**/settings/devices/remove", lambda route: held.append(route))
    with page.expect_request("**/settings/devices/remove"):
        page.get_by_role("button", name="No more notices on this device").click()
    bob.post("alice", "for nobody, even before the server knows")
    expect(page.locator("#chats .unread")).to_have_text("1 unread")
    page.wait_for_timeout(500)
    assert page.evaluate("shown()") == []
    held[0].continue_()
    eventually(lambda: owners(postgres) == [])


def test_two_people_who_write_at_once_are_both_told_of_and_once(
    window: Windows, alice: Person, bob: Person, charlie: Person
) -> None:
    hers = window(alice)
    page = with_notices(hers)
    other = hers.tab("/")
    connected(other)
    for tab in (page, other):
        tab.evaluate("hide(true)")
    eventually(lambda: page.evaluate("inView()") == 0)

    bob.post("alice", "from bob")
    charlie.post("alice", "from charlie")
    bob.post("alice", "bob again")

    told = [["bob", "bob again"], ["charlie", "from charlie"]]
    eventually(lambda: sorted(page.evaluate("shown()")) == told)


def test_a_notice_that_is_slow_to_come_goes_too_once_its_chat_was_read(
    window: Windows, alice: Person, bob: Person
) -> None:
    page = with_notices(window(alice))
    page.evaluate(SLOW)
    page.evaluate("hide(true)")
    eventually(lambda: page.evaluate("inView()") == 0)
    bob.post("alice", "read elsewhere")
    eventually(lambda: page.evaluate("isAsked"))
    with alice.socket() as phone:
        phone.send(action="read", to="bob", version="1")
        expect(page.locator("#chats .unread")).to_have_count(0)

        page.wait_for_timeout(300)
        page.evaluate("show()")
        eventually(lambda: page.evaluate("isShown"))
        eventually(lambda: page.evaluate("shown()") == [])


def test_a_device_that_was_forgotten_comes_back_with_the_settings(
    window: Windows, alice: Person, postgres: psycopg.Connection
) -> None:
    hers = window(alice)
    prepare(hers)
    page = hers.open("/settings")
    connected(page)
    page.get_by_role("button", name="Show notices on this device").click()
    eventually(lambda: owners(postgres) == [("alice", FCM)])
    postgres.execute("DELETE FROM push_devices")

    page.reload()

    eventually(lambda: owners(postgres) == [("alice", FCM)])


def test_what_comes_by_push_is_shown_and_leads_to_its_chat(window: Windows, alice: Person, bob: Person) -> None:
    bob.post("alice", "hello")
    hers = window(alice)
    hers.context.grant_permissions(["notifications"])
    page = hers.open("/")
    connected(page)
    page.evaluate("navigator.serviceWorker.register('/static/worker.js', { scope: '/' })")
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    devtools = hers.context.new_cdp_session(page)
    registrations: list[str] = []
    devtools.on(
        "ServiceWorker.workerRegistrationUpdated",
        lambda event: registrations.extend(it["registrationId"] for it in event["registrations"]),
    )
    devtools.send("ServiceWorker.enable")
    page.wait_for_timeout(200)

    address = f"{alice.site.url}/chat/bob"
    notice = {"title": "bob", "body": "hello", "navigate": address, "tag": "chat-1"}
    pushed = {
        "origin": alice.site.url,
        "registrationId": registrations[0],
        "data": json.dumps({"notification": notice}),
    }
    devtools.send("ServiceWorker.deliverPushMessage", pushed)

    shown = "navigator.serviceWorker.ready.then((it) => it.getNotifications())"
    told = f"{shown}.then((all) => all.map((it) => [it.title, it.body, it.tag, it.data.address]))"
    eventually(lambda: page.evaluate(told) == [["bob", "hello", "chat-1", address]])
    # A click on it cannot be made here: the worker then sends this to a page that is open.
    page.evaluate("navigator.serviceWorker.dispatchEvent(new MessageEvent('message', { data: '/chat/bob' }))")
    expect(page.get_by_role("heading", name="bob", exact=True)).to_be_visible()


def test_knock_can_be_installed(window: Windows, alice: Person) -> None:
    page = window(alice).open("/")
    manifest = page.evaluate("fetch(document.querySelector('link[rel=manifest]').href).then(it => it.json())")
    assert (manifest["start_url"], manifest["display"]) == ("/", "standalone")
    for icon in manifest["icons"]:
        answer = page.request.get(f"{page.url}static/{icon['src']}")
        assert (answer.status, answer.headers["content-type"]) == (200, icon["type"])
