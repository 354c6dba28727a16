"""Linking from the settings page; nobody can link somebody else's account."""

import re

import pytest
import redis

from tests import site as sites
from tests.site import Page, Person, Site, eventually
from tests.telegram.bot_api import TOKEN, USERNAME
from tests.telegram.fixtures import PATIENCE, Knock

CODE = re.compile(rf"https://t\.me/{USERNAME}\?start=([A-Za-z0-9_-]{{22,64}})")


def shown_code(knock: Knock, person: Person) -> str:
    # The worker publishes the bot's name, but not at once after a test has wiped Valkey.
    name = f"telegram-name:{TOKEN.partition(':')[0]}"
    with redis.Redis.from_url(knock.environ["REDIS_URL"]) as valkey:
        valkey.set(name, USERNAME)
    link = person.page("/settings").one("#telegram a[href^='https://t.me/']")["href"]
    match = CODE.fullmatch(str(link))
    assert match is not None, link
    return match[1]


def send(knock: Knock, chat_id: int, text: str, first_name: str = "Bobby") -> str:
    """Write to the bot, and return its answer."""
    before = len(knock.telegram.called("sendMessage", chat_id=chat_id))
    knock.telegram.write(chat_id, text, first_name)
    eventually(lambda: len(knock.telegram.called("sendMessage", chat_id=chat_id)) > before, PATIENCE)
    return knock.telegram.called("sendMessage", chat_id=chat_id)[-1].parameters["text"]


def test_the_link_of_the_settings_page_links_the_user_who_opened_it(knock: Knock) -> None:
    bob, charlie = knock.person("bob"), knock.person("charlie")

    send(knock, 801, f"/start {shown_code(knock, bob)}")

    assert knock.user(bob, "telegram_chat_id") == 801
    assert knock.user(charlie, "telegram_chat_id") is None
    assert "Connected to Bobby" in bob.page("/settings").one("#telegram").get_text()


def test_the_qr_code_is_there_without_styles(knock: Knock) -> None:
    bob = knock.person("bob")

    assert shown_code(knock, bob)
    svg = bob.page("/settings").one("#telegram svg")

    assert svg.select("path")
    assert "style" not in str(svg)


def test_a_code_is_kept_as_its_hash_and_gone_after_ten_minutes(knock: Knock) -> None:
    bob = knock.person("bob")
    code = shown_code(knock, bob)
    ((row_id, life),) = knock.postgres.execute("SELECT id, expires_at - now() FROM telegram_codes").fetchall()
    assert code.encode() not in row_id
    assert 590 < life.total_seconds() <= 600

    knock.postgres.execute("UPDATE telegram_codes SET expires_at = now() - interval '1 second'")

    assert "older than ten minutes" in send(knock, 802, f"/start {code}")
    assert knock.user(bob, "telegram_chat_id") is None


def test_a_new_link_ends_the_old_ones(knock: Knock) -> None:
    bob = knock.person("bob")
    old = shown_code(knock, bob)

    bob.http.post("/settings/telegram/code")

    assert "used up" in send(knock, 803, f"/start {old}")
    assert knock.user(bob, "telegram_chat_id") is None


def test_a_request_is_shown_to_the_user_it_names_and_links_when_they_confirm(knock: Knock) -> None:
    bob, charlie = knock.person("bob"), knock.person("charlie")
    send(knock, 805, "/start", first_name="<i>Bobby</i>")
    send(knock, 805, "bob", first_name="<i>Bobby</i>")

    shown = bob.page("/settings").one(".request").get_text()
    assert "The Telegram account <i>Bobby</i> asks for your notifications" in shown
    assert not charlie.page("/settings").html.select(".request")

    page = bob.http.post("/settings/telegram/requests/805/connect", follow_redirects=True)

    assert "Telegram is connected" in page.text
    assert knock.user(bob, "telegram_chat_id") == 805
    assert not bob.page("/settings").html.select(".request")


def test_nobody_else_can_confirm_or_refuse(knock: Knock) -> None:
    bob, charlie = knock.person("bob"), knock.person("charlie")
    send(knock, 806, "/start")
    send(knock, 806, "bob")
    assert bob.page("/settings").one(".request")

    for said in ("connect", "refuse"):
        charlie.http.post(f"/settings/telegram/requests/806/{said}")

    assert knock.user(charlie, "telegram_chat_id") is None
    assert knock.user(bob, "telegram_chat_id") is None
    assert bob.page("/settings").one(".request")


def test_not_me_ends_the_request(knock: Knock) -> None:
    bob = knock.person("bob")
    send(knock, 807, "/start")
    send(knock, 807, "bob")

    bob.http.post("/settings/telegram/requests/807/refuse")

    assert not bob.page("/settings").html.select(".request")
    bob.http.post("/settings/telegram/requests/807/connect")
    assert knock.user(bob, "telegram_chat_id") is None


def test_a_request_is_gone_after_a_day(knock: Knock) -> None:
    bob = knock.person("bob")
    send(knock, 808, "/start")
    send(knock, 808, "bob")
    knock.postgres.execute("UPDATE telegram_requests SET created_at = now() - interval '25 hours'")

    assert not bob.page("/settings").html.select(".request")
    page = bob.http.post("/settings/telegram/requests/808/connect", follow_redirects=True)
    assert "no longer there" in page.text
    assert knock.user(bob, "telegram_chat_id") is None


@pytest.mark.parametrize("chat_id", ["99999999999999999999", "-5", "abc", "1e3"])
def test_a_malformed_chat_is_not_found(knock: Knock, chat_id: str) -> None:
    bob = knock.person("bob")

    assert bob.http.post(f"/settings/telegram/requests/{chat_id}/connect").status_code == 404


def test_linking_anew_forgets_the_problem_and_the_cards_of_the_old_chat(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    alice.post("bob", "to the old phone")
    assert knock.settled(bob) == ["sent"]
    bob.log_in()
    bob.http.post("/settings/telegram/unlink")
    knock.change(bob, telegram_problem="Telegram says: bot was blocked by the user.")

    send(knock, 809, f"/start {shown_code(knock, bob)}")
    bob.log_out()
    alice.post("bob", "to the new phone")

    assert knock.settled(bob) == ["sent", "sent"]
    assert [call.method for call in knock.telegram.called(chat_id=chat)] == ["sendMessage"]
    assert [call.method for call in knock.telegram.called(chat_id=809)] == ["sendMessage", "sendMessage"]
    assert "to the new phone" in knock.telegram.shown(809)[-1]
    assert knock.user(bob, "telegram_problem") is None


def test_disconnecting_unlinks(knock: Knock) -> None:
    bob = knock.person("bob")
    knock.link(bob)

    bob.http.post("/settings/telegram/unlink")

    assert knock.user(bob, "telegram_chat_id") is None
    assert shown_code(knock, bob)


def test_the_test_button_sends_a_message(knock: Knock) -> None:
    bob = knock.person("bob")
    chat = knock.link(bob)

    page = bob.http.post("/settings/telegram/test", follow_redirects=True)

    assert "Telegram took the test message" in page.text
    assert "bob" in knock.telegram.shown(chat)[0]


def press_test(knock: Knock, person: Person) -> str:
    """Half a minute after the last time."""
    with redis.Redis.from_url(knock.environ["REDIS_URL"]) as valkey:
        valkey.delete(f"telegram-tested:{knock.user(person, 'id')}")
    return person.http.post("/settings/telegram/test", follow_redirects=True).text


def test_the_test_button_says_what_telegram_said(knock: Knock) -> None:
    bob = knock.person("bob")
    chat = knock.link(bob)

    knock.telegram.order({"html": 502}, chat_id=chat)
    assert "did not take the test message" in press_test(knock, bob)
    knock.telegram.order({"retry_after": 60}, chat_id=chat)
    for _ in range(2):
        assert "asks for a pause" in press_test(knock, bob)
    assert len(knock.telegram.called(chat_id=chat)) == 2
    knock.change(bob, telegram_not_before=None)
    knock.telegram.refuse(403, "Forbidden: bot was blocked by the user", chat_id=chat)
    refused = press_test(knock, bob)

    assert "Telegram refused the test message" in refused
    assert "bot was blocked by the user" in refused
    assert knock.user(bob, "telegram_chat_id") is None


def test_whether_to_be_notified_when_away_is_ones_own_choice(knock: Knock) -> None:
    bob = knock.person("bob")
    knock.link(bob)
    assert knock.user(bob, "notify_when_away") is False

    bob.http.post("/settings/notify", data={"when_away": "on"})
    assert knock.user(bob, "notify_when_away") is True
    assert bob.page("/settings").one("input[name=when_away]").has_attr("checked")

    bob.http.post("/settings/notify")
    assert knock.user(bob, "notify_when_away") is False


def test_the_page_shows_by_itself_that_it_is_linked(knock: Knock) -> None:
    bob = knock.person("bob")
    code = shown_code(knock, bob)
    address = str(bob.page("/settings").one("#telegram")["hx-get"])
    assert bob.http.get(address).status_code == 204

    send(knock, 810, f"/start {code}")

    answer = Page(bob.http.get(address))
    assert "Connected to Bobby" in answer.one("#telegram").get_text()


def test_a_stranger_is_sent_to_log_in(knock: Knock) -> None:
    stranger = knock.site.client()

    for path in ("code", "unlink", "test", "requests/1/connect", "requests/1/refuse"):
        assert stranger.post(f"/settings/telegram/{path}").headers["location"].startswith("/login")
    assert stranger.post("/settings/notify").headers["location"].startswith("/login")


def test_a_site_without_a_token_says_so(site: Site, alice: Person) -> None:
    section = alice.page("/settings").one("#telegram")

    assert "Telegram is off on this site" in section.get_text()
    assert not section.select("a")


def test_while_the_worker_does_not_answer_the_settings_do(environ: dict[str, str], clean: None) -> None:
    with sites.running(environ, TELEGRAM_BOT_TOKEN="1:nobody", WEB_PROCESSES="1") as site:
        page = site.person("bob").page("/settings")

    assert page.status == 200
    assert "Telegram does not answer" in page.one("#telegram").get_text()
