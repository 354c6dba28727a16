"""Link codes, requests and links as PostgreSQL holds them."""

import secrets
from datetime import timedelta

import pytest

from tests.notifications.scene import Scene
from web.telegram import linking
from web.telegram.linking import Account

CHAT = 801
OTHER = 802


def code_for(scene: Scene, user_id: int) -> str:
    """A code, as shown to a session of its own."""
    session = secrets.token_bytes(8)
    scene.postgres.execute(
        "INSERT INTO sessions (id, user_id, expires_at) VALUES (%s, %s, now() + interval '1 day')", [session, user_id]
    )
    return scene.run(lambda db: linking.make_code(db, user_id, session))


def use(scene: Scene, code: str, chat_id: int = CHAT) -> str | None:
    return scene.run(lambda db: linking.use_code(db, code, Account(chat_id, "Bobby", None)))


def request(scene: Scene, username: str, chat_id: int = CHAT) -> bool:
    """The chat sends /start and then the username."""
    scene.run(lambda db: linking.expect_username(db, Account(chat_id, f"Bobby {chat_id}", None)))
    return named(scene, username, chat_id)


def named(scene: Scene, username: str, chat_id: int = CHAT) -> bool:
    return scene.run(lambda db: linking.name_user(db, chat_id, username)) is not None


def requests(scene: Scene, user_id: int) -> list[int]:
    return [request.chat_id for request in scene.run(lambda db: linking.requests(db, user_id))]


def confirm(scene: Scene, user_id: int, chat_id: int = CHAT) -> bool:
    return scene.run(lambda db: linking.confirm(db, user_id, chat_id))


def link_of(scene: Scene, user_id: int) -> tuple[int | None, str | None, str | None]:
    query = "SELECT telegram_chat_id, telegram_name, telegram_problem FROM users WHERE id = %s"
    chat_id, name, problem = scene.value(query, user_id)
    return chat_id, name, problem


def count(scene: Scene, table: str) -> int:
    return int(scene.value(f"SELECT count(*) FROM {table}"))


def age(scene: Scene, table: str, column: str, by: timedelta) -> None:
    scene.postgres.execute(f"UPDATE {table} SET {column} = {column} - %s".encode(), [by])


@pytest.fixture(autouse=True)
def unlinked(scene: Scene) -> None:
    scene.change(scene.bob, telegram_chat_id=None)


def test_a_code_links_its_user_once(scene: Scene) -> None:
    dora = scene.user("dora", telegram_chat_id=None)
    code = code_for(scene, scene.bob)
    code_for(scene, dora)
    assert len(code) == 32  # 192 bits
    assert code.encode() not in scene.value("SELECT id FROM telegram_codes WHERE user_id = %s", scene.bob)

    assert use(scene, "another") is None
    assert use(scene, code) == "bob"

    assert link_of(scene, scene.bob) == (CHAT, "Bobby", None)
    assert link_of(scene, dora) == (None, None, None)
    assert use(scene, code, OTHER) is None
    assert link_of(scene, scene.bob)[0] == CHAT
    assert count(scene, "telegram_codes") == 1  # dora's


def test_the_five_newest_codes_of_a_user_hold(scene: Scene) -> None:
    dora = scene.user("dora")
    hers = code_for(scene, dora)
    codes = [code_for(scene, scene.bob) for _ in range(7)]

    assert count(scene, "telegram_codes") == 6
    assert use(scene, codes[1]) is None
    assert use(scene, codes[2]) == "bob"
    assert use(scene, hers) == "dora"


def test_a_code_holds_for_ten_minutes(scene: Scene) -> None:
    code = code_for(scene, scene.bob)
    age(scene, "telegram_codes", "expires_at", timedelta(minutes=9, seconds=50))
    assert scene.value("SELECT expires_at > now() FROM telegram_codes")
    age(scene, "telegram_codes", "expires_at", timedelta(seconds=10))

    assert use(scene, code) is None
    assert count(scene, "telegram_codes") == 1
    code_for(scene, scene.user("dora"))
    assert count(scene, "telegram_codes") == 1  # expired ones go when the next is made


def test_dropping_ends_the_codes_of_one_user(scene: Scene) -> None:
    dora = scene.user("dora")
    code, hers = code_for(scene, scene.bob), code_for(scene, dora)

    scene.run(lambda db: linking.drop_codes(db, scene.bob))

    assert use(scene, code) is None
    assert use(scene, hers) == "dora"


def test_a_request_links_only_at_the_named_users_yes(scene: Scene) -> None:
    dora = scene.user("dora", telegram_chat_id=None)
    assert request(scene, "BOB")
    assert requests(scene, scene.bob) == [CHAT]
    assert requests(scene, dora) == []
    assert link_of(scene, scene.bob)[0] is None

    assert not confirm(scene, dora)
    assert not confirm(scene, scene.bob, OTHER)
    assert confirm(scene, scene.bob)

    assert link_of(scene, scene.bob) == (CHAT, f"Bobby {CHAT}", None)
    assert link_of(scene, dora)[0] is None
    assert requests(scene, scene.bob) == []
    assert not confirm(scene, scene.bob)


def test_a_username_counts_only_after_start_and_only_once(scene: Scene) -> None:
    assert not named(scene, "bob")
    assert request(scene, "nobody-here")
    assert not named(scene, "bob")
    assert requests(scene, scene.bob) == []

    assert request(scene, "bob")  # /start again
    assert requests(scene, scene.bob) == [CHAT]


def test_start_takes_the_earlier_request_back(scene: Scene) -> None:
    request(scene, "bob")

    scene.run(lambda db: linking.expect_username(db, Account(CHAT, "Another name", None)))

    assert requests(scene, scene.bob) == []
    assert named(scene, "bob")
    (shown,) = scene.run(lambda db: linking.requests(db, scene.bob))
    assert shown.telegram_name == "Another name"


def test_one_chats_username_is_no_others(scene: Scene) -> None:
    scene.run(lambda db: linking.expect_username(db, Account(CHAT, "Bobby", None)))
    scene.run(lambda db: linking.expect_username(db, Account(OTHER, "Robert", None)))

    named(scene, "bob", OTHER)

    assert requests(scene, scene.bob) == [OTHER]


def test_a_user_is_shown_the_oldest_requests(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linking, "REQUESTS", 20)
    for chat_id in range(1, 23):
        request(scene, "bob", chat_id)

    assert requests(scene, scene.bob) == list(range(1, 21))


def test_refusing_ends_one_request_and_only_ones_own(scene: Scene) -> None:
    dora = scene.user("dora")
    request(scene, "bob", CHAT)
    request(scene, "bob", OTHER)

    scene.run(lambda db: linking.refuse(db, dora, CHAT))
    assert requests(scene, scene.bob) == [CHAT, OTHER]
    scene.run(lambda db: linking.refuse(db, scene.bob, CHAT))
    assert requests(scene, scene.bob) == [OTHER]


def test_a_request_holds_for_a_day(scene: Scene) -> None:
    request(scene, "bob")
    age(scene, "telegram_requests", "created_at", timedelta(hours=23, minutes=59))
    assert requests(scene, scene.bob) == [CHAT]
    age(scene, "telegram_requests", "created_at", timedelta(minutes=1))

    assert requests(scene, scene.bob) == []
    assert not confirm(scene, scene.bob)
    assert count(scene, "telegram_requests") == 1
    scene.run(lambda db: linking.expect_username(db, Account(OTHER, "Robert", None)))
    assert scene.value("SELECT chat_id FROM telegram_requests") == OTHER  # old ones go when the next begins


def test_a_username_is_expected_for_a_day(scene: Scene) -> None:
    scene.run(lambda db: linking.expect_username(db, Account(CHAT, "Bobby", None)))
    age(scene, "telegram_requests", "created_at", timedelta(hours=24))

    assert not named(scene, "bob")


def test_the_day_begins_anew_with_the_username(scene: Scene) -> None:
    scene.run(lambda db: linking.expect_username(db, Account(CHAT, "Bobby", None)))
    age(scene, "telegram_requests", "created_at", timedelta(hours=23))
    named(scene, "bob")
    age(scene, "telegram_requests", "created_at", timedelta(hours=23))

    assert requests(scene, scene.bob) == [CHAT]


def test_unlinking_ends_the_link_of_one_user(scene: Scene) -> None:
    dora = scene.user("dora", telegram_name="Dora")
    use(scene, code_for(scene, scene.bob))

    scene.run(lambda db: linking.unlink(db, scene.bob))

    assert link_of(scene, scene.bob) == (None, None, None)
    assert link_of(scene, dora)[1] == "Dora"


def test_stop_ends_the_links_and_the_request_of_one_chat(scene: Scene) -> None:
    dora, charlie = scene.user("dora", telegram_chat_id=CHAT), scene.user("charlie", telegram_chat_id=OTHER)
    use(scene, code_for(scene, scene.bob))
    request(scene, "charlie", CHAT)
    request(scene, "bob", OTHER)

    scene.run(lambda db: linking.stop(db, CHAT))

    assert [link_of(scene, user)[0] for user in (scene.bob, dora, charlie)] == [None, None, OTHER]
    assert requests(scene, charlie) == []
    assert requests(scene, scene.bob) == [OTHER]


def test_a_closed_chat_is_unlinked_and_its_users_see_why(scene: Scene) -> None:
    dora, charlie = scene.user("dora", telegram_chat_id=CHAT), scene.user("charlie", telegram_chat_id=OTHER)
    use(scene, code_for(scene, scene.bob))
    scene.change(scene.bob, telegram_not_before="2100-01-01")

    scene.run(lambda db: linking.lose(db, CHAT, "It is blocked."))

    for user in (scene.bob, dora):
        assert link_of(scene, user) == (None, None, "It is blocked.")
    assert link_of(scene, charlie) == (OTHER, None, None)
    assert scene.value("SELECT telegram_not_before FROM users WHERE id = %s", scene.bob) is None


def test_a_new_link_forgets_the_problem_the_pause_and_the_cards_of_the_old_chat(scene: Scene) -> None:
    scene.change(scene.bob, telegram_chat_id=OTHER)
    dora = scene.user("dora")
    (notification,) = scene.write("to bob")
    (hers,) = scene.write("to dora", conversation=scene.begin(scene.alice, dora))
    scene.sent(notification, card_id=41)
    scene.sent(hers, card_id=42)
    scene.change(scene.bob, telegram_problem="It is blocked.", telegram_not_before="2100-01-01")

    use(scene, code_for(scene, scene.bob))

    assert link_of(scene, scene.bob) == (CHAT, "Bobby", None)
    assert scene.value("SELECT telegram_not_before FROM users WHERE id = %s", scene.bob) is None
    assert scene.row(notification, "card_id") is None
    assert scene.row(hers, "card_id") == 42
