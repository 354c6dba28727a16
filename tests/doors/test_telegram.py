"""Telegram under attack: by whoever saw a link, found an open browser, or writes to the bot."""

import socket
import threading
import traceback
from collections.abc import Callable, Iterator

import pytest

from tests import site as sites
from tests.site import PASSWORD, Page, Person
from tests.telegram.bot_api import TOKEN, FakeTelegram
from tests.telegram.fixtures import Knock
from tests.telegram.test_errors import failure
from tests.telegram.test_linking import send, shown_code


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
