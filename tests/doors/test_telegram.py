"""Telegram under attack: by whoever saw a link, found an open browser, or writes to the bot."""

import logging
import os
import re
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator

import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from tests import site as sites
from tests.notifications.scene import Scene
from tests.site import PASSWORD, Page, Person, eventually
from tests.telegram.bot_api import TOKEN, FakeTelegram
from tests.telegram.fixtures import PATIENCE, Knock
from tests.telegram.test_codes import CHAT, code_for, use
from tests.telegram.test_errors import failure
from tests.telegram.test_linking import send, shown_code
from web import tasks
from web.telegram import linking


def claim(knock: Knock, chat_id: int, wanted: str, first_name: str = "Bobby", **more: str) -> str:
    """The chat asks for that user's notifications. Returns the bot's answer."""

    def answers() -> list[str]:
        return [call.parameters["text"] for call in knock.telegram.called("sendMessage", chat_id=chat_id)]

    before = len(answers())
    for text in ("/start", wanted):
        knock.telegram.write(chat_id, text, first_name, **more)
    eventually(lambda: len(answers()) > before and "Your number" in answers()[-1], PATIENCE)
    return answers()[-1]


def await_worker(knock: Knock, writer: Person) -> None:
    """A page does not wait as long as the worker may take to start."""
    person, chat_id = knock.absent("somebody-else")
    writer.post(person.username, "hello")
    knock.card(chat_id)


def forget_password(knock: Knock, person: Person) -> None:
    """Let the ten minutes after a login pass."""
    knock.postgres.execute(
        "UPDATE sessions SET confirmed_at = now() - interval '10 minutes'"
        " FROM users WHERE users.id = user_id AND username = %s",
        [person.username],
    )


def end_others(person: Person) -> None:
    person.another_browser().http.post("/settings/sessions/end")


def change_password(person: Person) -> None:
    """In the session that was shown the code."""
    response = person.http.post("/settings/password", data={"current": PASSWORD, "password": "another of my passwords"})
    assert response.status_code == 303


@pytest.mark.parametrize("end", [Person.log_out, end_others, change_password])
def test_a_code_ends_with_its_session_and_with_the_password(knock: Knock, end: Callable[[Person], None]) -> None:
    bob, dora = knock.person("bob"), knock.person("dora")
    code, hers = shown_code(knock, bob), shown_code(knock, dora)

    end(bob)

    assert "used up" in send(knock, 901, f"/start {code}")
    assert knock.user(bob, "telegram_chat_id") is None
    assert "Connected" in send(knock, 902, f"/start {hers}")


@pytest.mark.parametrize(
    "change",
    ["UPDATE sessions SET expires_at = now()", "UPDATE telegram_codes SET session_id = NULL"],
    ids=["a session that is over", "a code of the release before"],
)
def test_a_code_without_a_live_session_links_nobody(knock: Knock, change: str) -> None:
    bob = knock.person("bob")
    code = shown_code(knock, bob)
    knock.postgres.execute(change.encode())

    assert "used up" in send(knock, 903, f"/start {code}")
    assert knock.user(bob, "telegram_chat_id") is None


def test_who_finds_an_open_browser_neither_connects_nor_disconnects(knock: Knock) -> None:
    bob = knock.person("bob")
    assert shown_code(knock, bob)
    send(knock, 904, "/start")
    send(knock, 904, "bob")
    forget_password(knock, bob)

    page = bob.page("/settings")
    assert not page.html.select("a[href^='https://t.me/'], #telegram svg, form[action$=connect]")
    assert page.one("#telegram form[action='/settings/confirm'] input[type=password]")
    answer = bob.http.post("/settings/telegram/requests/904/connect")
    assert answer.headers["location"] == "/settings/confirm"
    assert knock.user(bob, "telegram_chat_id") is None

    chat = knock.link(bob)
    assert not bob.page("/settings").html.select("form[action$=unlink]")
    assert bob.http.post("/settings/telegram/unlink").headers["location"] == "/settings/confirm"
    assert knock.user(bob, "telegram_chat_id") == chat


def test_who_knows_the_password_goes_on(knock: Knock) -> None:
    bob = knock.person("bob")
    forget_password(knock, bob)
    assert bob.page("/settings/confirm").one("input[type=password]")

    for wrong in ("", "not the password"):
        page = Page(bob.http.post("/settings/confirm", data={"password": wrong}))
        assert page.status == 422
        assert "password" in page.errors
    assert not bob.page("/settings").html.select("a[href^='https://t.me/']")

    answer = bob.http.post("/settings/confirm", data={"password": PASSWORD})
    assert answer.headers["location"] == "/settings#telegram"
    assert shown_code(knock, bob)
    other = bob.another_browser()
    forget_password(knock, bob)
    other.http.post("/settings/confirm", data={"password": PASSWORD})
    assert not bob.page("/settings").html.select("a[href^='https://t.me/']")  # only the session where it was typed


def test_guesses_of_the_password_are_counted(environ: dict[str, str], clean: None) -> None:
    with sites.in_this_process(environ, LIMITS="on") as site:
        bob = site.person("bob")
        guesses = [bob.http.post("/settings/confirm", data={"password": f"guess {n}"}).status_code for n in range(11)]
        right = Page(bob.http.post("/settings/confirm", data={"password": PASSWORD}))

    assert guesses == [422] * 10 + [429]
    assert right.status == 429
    assert "Too many attempts" in right.errors


SECRET = TOKEN.partition(":")[2]


def test_no_redirect_is_followed(fake: FakeTelegram) -> None:
    fake.order({"redirect": f"{fake.url}/bot{TOKEN}/sendMessage"}, times=0)

    error = failure(fake.url)

    assert len(fake.calls) == 1
    assert "".join(traceback.format_exception(error)).count(SECRET) == 0


def test_a_refusal_that_quotes_the_token_is_kept_without_it(knock: Knock) -> None:
    alice = knock.person("alice")
    bob, chat = knock.absent("bob")
    knock.telegram.refuse(403, f"Forbidden: /bot{TOKEN}/sendMessage is closed to you", chat_id=chat)

    alice.post("bob", "hello")

    assert knock.settled(bob) == ["failed"]
    for problem in (*knock.rows(bob, "problem"), knock.user(bob, "telegram_problem")):
        assert problem == "Telegram says: /bot123456:…/sendMessage is closed to you."


@pytest.fixture
def garbler() -> Iterator[str]:
    """A server that answers nonsense, so that aiohttp's error quotes the whole address of the request."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/9.9 what is this\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def test_no_error_of_the_network_quotes_the_token(garbler: str) -> None:
    error = failure(garbler)

    assert "/bot123456:…/sendMessage" in str(error)
    assert "".join(traceback.format_exception(error)).count(SECRET) == 0


def test_the_bot_answers_once_a_second_a_chat_and_does_what_it_is_told(knock: Knock) -> None:
    bob = knock.person("bob")
    knock.change(bob, telegram_chat_id=905)

    for text in [*["hello"] * 100, "/stop", *["hello"] * 98, "/start"]:
        knock.telegram.write(905, text)
    send(knock, 906, "hello")  # which comes after them
    assert knock.user(bob, "telegram_chat_id") is None

    def answers() -> list[str]:
        return [call.parameters["text"] for call in knock.telegram.called("sendMessage", chat_id=905)]

    eventually(lambda: "What is your username" in answers()[-1], PATIENCE)  # what was written last is answered
    calls = knock.telegram.called("sendMessage", chat_id=905)
    assert 2 <= len(calls) <= 2 + calls[-1].at - calls[0].at


def test_a_user_sends_one_test_in_half_a_minute(knock: Knock, valkey: redis.Redis) -> None:
    bob, dora = knock.person("bob"), knock.person("dora")
    chat, hers = knock.link(bob), knock.link(dora)
    await_worker(knock, bob)

    pages = [bob.http.post("/settings/telegram/test", follow_redirects=True).text for _ in range(10)]
    assert "Telegram took the test message" in pages[0]
    assert all("You can send one test message in half a minute" in page for page in pages[1:])
    assert len(knock.telegram.called(chat_id=chat)) == 1

    assert "took the test" in dora.http.post("/settings/telegram/test", follow_redirects=True).text
    assert len(knock.telegram.called(chat_id=hers)) == 1
    assert 0 < int(str(valkey.ttl(f"telegram-tested:{knock.user(bob, 'id')}"))) <= 30


def test_no_number_of_tests_holds_up_a_knock(knock: Knock) -> None:
    alice, charlie = knock.person("alice"), knock.person("charlie")
    chat = knock.link(charlie)
    _, his = knock.absent("bob")
    await_worker(knock, alice)
    assert knock.worker.process
    broker = RedisBroker(url=knock.environ["REDIS_URL"])  # type: ignore[no-untyped-call]

    os.killpg(knock.worker.process.pid, signal.SIGSTOP)
    for number in range(300):
        broker.enqueue(tasks.send_test.message(knock.user(charlie, "id"), f"test-{number}"))
    alice.post("bob", "hello")
    os.killpg(knock.worker.process.pid, signal.SIGCONT)

    knock.card(his)
    (knocked,) = knock.telegram.called(chat_id=his)
    assert len([call for call in knock.telegram.called(chat_id=chat) if call.at < knocked.at]) < 100
    broker.flush_all()


def test_a_number_tells_the_true_claim_from_those_of_impostors(knock: Knock) -> None:
    bob = knock.person("bob")
    numbers = {}
    for chat_id in range(910, 916):
        more = {"username": "bobby"} if chat_id == 910 else {}
        answer = claim(knock, chat_id, "bob", "\u202eBobby (@bobby)", **more)
        numbers[chat_id] = re.findall(r"number is <b>(\d{4})</b>", answer)

    shown = bob.page("/settings").html.select(".request")
    assert [[item.select(".number")[0].get_text()] for item in shown] == list(numbers.values())  # the first one first
    assert len({str(number) for number in numbers.values()}) > 1
    assert [name.get_text() for name in shown[0].select("bdi")] == ["\u202eBobby (@bobby)", "@bobby"]
    for impostor in shown[1:]:
        assert [name.get_text() for name in impostor.select("bdi")] == ["\u202eBobby (@bobby)"]
        assert "It has no @name" in impostor.get_text()

    bob.http.post("/settings/telegram/requests/910/connect")
    assert [name.get_text() for name in bob.page("/settings").html.select("#telegram > p bdi")] == [
        "\u202eBobby (@bobby)",
        "@bobby",
    ]


def test_what_was_refused_stays_refused_for_a_day(knock: Knock) -> None:
    bob, dora = knock.person("bob"), knock.person("dora")
    first = claim(knock, 920, "bob")
    bob.http.post("/settings/telegram/requests/920/refuse")

    again = claim(knock, 920, "bob")
    assert re.sub(r"\d{4}", "", again) == re.sub(r"\d{4}", "", first)
    assert not bob.page("/settings").html.select(".request, .badge")
    bob.http.post("/settings/telegram/requests/920/connect")
    assert knock.user(bob, "telegram_chat_id") is None
    claim(knock, 921, "bob")  # somebody else may ask
    assert bob.page("/settings").one(".request")
    claim(knock, 920, "dora")  # and the same account for somebody else
    assert dora.page("/settings").one(".request")

    knock.postgres.execute("UPDATE telegram_refusals SET created_at = now() - interval '1 day'")
    claim(knock, 920, "bob")
    assert len(bob.page("/settings").html.select(".request")) == 2


def test_only_chats_that_asked_can_be_refused(knock: Knock) -> None:
    bob = knock.person("bob")

    for chat_id in range(3000, 3010):
        bob.http.post(f"/settings/telegram/requests/{chat_id}/refuse")

    assert knock.postgres.execute("SELECT count(*) FROM telegram_refusals").fetchone() == (0,)


def test_a_claim_shows_on_every_page_of_the_user_whom_it_names(knock: Knock) -> None:
    bob, dora = knock.person("bob"), knock.person("dora")
    pages = ("/", "/users", "/chat/dora", "/settings")
    assert not any(bob.page(path).html.select(".badge") for path in pages)

    claim(knock, 930, "bob")
    for path in pages:
        assert "asks for your notifications" in bob.page(path).one("nav .badge").get_text()
    assert not any(dora.page(path).html.select(".badge") for path in ("/", "/users", "/chat/bob", "/settings"))

    knock.postgres.execute("UPDATE telegram_requests SET created_at = now() - interval '1 day'")
    assert not any(bob.page(path).html.select(".badge") for path in pages)


def test_the_log_says_who_is_connected_and_disconnected(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene.change(scene.bob, telegram_chat_id=None)
    code = code_for(scene, scene.bob)
    use(scene, code)
    scene.run(lambda db: linking.unlink(db, scene.bob))
    scene.run(lambda db: linking.unlink(db, scene.bob))
    use(scene, code_for(scene, scene.bob))
    scene.run(lambda db: linking.lose(db, CHAT, "It is blocked."))

    said = [vars(record) for record in caplog.records if record.name == "knock.events"]
    assert [(line["event"], line["user"]) for line in said] == [
        ("telegram connected", "bob"),
        ("telegram disconnected", "bob"),
    ] * 2
    assert said[-1]["problem"] == "It is blocked."
    assert code not in caplog.text
