"""The entries of the chat list, as they reach open pages."""

import time

import psycopg
import pytest

from tests import site as sites
from tests.site import Person, Site, Tab
from web.chat import list_updates


def test_reading_clears_the_count_in_every_tab_of_the_reader(alice: Person, bob: Person) -> None:
    with alice.socket() as hers, bob.socket() as his, bob.socket() as his_other:
        hers.write("bob", "hello")
        assert his.entry().select(".unread")
        assert his_other.entry().select(".unread")
        assert hers.entry()

        his.send(action="read", to="alice", version="1")

        for tab in (his, his_other):
            assert not tab.entry().select(".unread")
        assert hers.entry()["data-read"] == "1"
    assert not bob.page("/").html.select(".unread")


def test_opening_the_chat_clears_the_count_in_other_tabs(alice: Person, bob: Person) -> None:
    with bob.socket() as his:
        alice.post("bob", "hello")
        assert his.entry().select(".unread")

        bob.page("/chat/alice")

        assert not his.entry().select(".unread")


def test_a_burst_moves_the_chat_in_the_list_a_few_times_a_second(alice: Person, bob: Person) -> None:
    with alice.socket() as hers, bob.socket() as his:
        started = time.monotonic()
        for number in range(1, 21):
            hers.write("bob", f"Line {number}")
            assert hers.message().seq == number

        entries = [his.entry()]
        while "Line 20" not in entries[-1].get_text():
            entries.append(his.entry())

        assert entries[-1].select(".unread")[0].get_text() == "20 unread"
        assert len(entries) <= 2 + (time.monotonic() - started) / list_updates.PAUSE


def test_all_of_a_crowd_of_chats_move(alice: Person, crowd: list[str]) -> None:
    with alice.socket() as hers:
        _write_to_each(hers, crowd, "first")
        _write_to_each(hers, crowd, "second")

        _hear_entries(hers, crowd, "second")


def test_an_entry_that_waits_is_sent_before_a_process_ends(
    alice: Person, bob: Person, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_updates, "PAUSE", 3600.0)
    with alice.socket() as hers:
        with sites.in_this_process(environ) as leaving, alice.socket(leaving) as hers_there:
            hers_there.write("bob", "number 0")
            for tab in (hers, hers_there):
                assert "number 0" in tab.entry().get_text()
            for n in range(1, 10):
                hers_there.write("bob", f"number {n}")
                assert [message.body for message in sites.messages(hers_there.frame())] == [f"number {n}"]

        assert "number 9" in hers.entry().get_text()


def test_a_count_that_was_read_meanwhile_does_not_come_back(alice: Person, bob: Person) -> None:
    """Entries come from several processes in any order, and a page drops one that is older than the one it has."""
    with alice.socket() as hers, bob.socket() as his:
        for number in (1, 2, 3):
            hers.write("bob", "hello")
            assert his.message().seq == number
            his.send(action="read", to="alice", version=str(number))

        # Three messages, all of them read by him, and delivered to and read by her who wrote them.
        while (entry := his.entry())["data-version"] != "12":
            assert int(str(entry["data-version"])) < 12
        assert not entry.select(".unread")


def test_an_entry_that_could_not_be_read_follows_when_postgresql_is_back(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    database = postgres.info.dbname
    with alice.socket() as hers, bob.socket() as his, psycopg.connect(postgres.info.dsn, dbname="template1") as outside:
        outside.autocommit = True
        hers.write("bob", "one")
        assert his.entry()
        hers.write("bob", "two")
        assert his.message().seq == 2  # its entry waits a moment

        outside.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
        try:
            outside.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
            assert his.hears_nothing_for(1)
        finally:
            outside.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')

        assert "two" in his.entry().get_text()


@pytest.fixture
def crowd(site: Site, postgres: psycopg.Connection) -> list[str]:
    """The names of more people than have their entries published in one turn."""
    names = [f"guest-{number}" for number in range(150)]
    postgres.execute("INSERT INTO users (username, password_hash) SELECT unnest(%s::text[]), ''", [names])
    return names


def _write_to_each(tab: Tab, names: list[str], body: str) -> None:
    for name in names:
        tab.write(name, body)


def _hear_entries(tab: Tab, names: list[str], body: str) -> None:
    """Wait until the entry of each chat shows this body."""
    shown: dict[str, bool] = {}
    while sum(shown.values()) < len(names):
        for entry in tab.frame().select("[id^=chat-]"):
            shown[str(entry["id"])] = body in entry.get_text()
