"""The entries of the chat list, as open pages are told of them."""

from contextlib import suppress

import psycopg
import pytest
from bs4 import Tag

from tests import site as sites
from tests.site import Person, Site, Tab


def test_reading_clears_the_count_in_every_tab_of_the_reader_only(alice: Person, bob: Person) -> None:
    with alice.socket() as hers, bob.socket() as his, bob.socket() as his_other:
        hers.write("bob", "hello")
        assert his.entry().select(".unread")
        assert his_other.entry().select(".unread")
        assert hers.entry()

        his.send(action="read", to="alice", version="1")

        for tab in (his, his_other):
            assert not tab.entry().select(".unread")
        assert hers.hears_nothing_for(0.3)
    assert not bob.page("/").html.select(".unread")


def test_opening_the_chat_clears_the_count_in_other_tabs(alice: Person, bob: Person) -> None:
    with bob.socket() as his:
        alice.post("bob", "hello")
        assert his.entry().select(".unread")

        bob.page("/chat/alice")

        assert not his.entry().select(".unread")


def test_a_burst_moves_the_chat_in_the_list_once_and_then_once_more(alice: Person, bob: Person) -> None:
    with alice.socket() as hers, bob.socket() as his:
        hers.write("bob", "Line 1")
        assert "Line 1" in his.entry().get_text()

        for number in range(2, 9):
            hers.write("bob", f"Line {number}")

        entry = his.entry()
        assert "Line 8" in entry.get_text()
        assert entry.select(".unread")[0].get_text() == "8 unread"
        assert his.hears_nothing_for(0.5)


def test_a_crowd_of_chats_has_all_its_lines(alice: Person, crowd: list[str]) -> None:
    with alice.socket() as hers:
        _write_to_each(hers, crowd, "first")
        _write_to_each(hers, crowd, "second")

        _hear_lines(hers, crowd, "second")


def test_lines_that_wait_are_told_of_before_a_process_ends(
    alice: Person, crowd: list[str], environ: dict[str, str]
) -> None:
    with alice.socket() as hers, sites.running(environ, WEB_PROCESSES="1") as leaving:
        with alice.socket(leaving) as hers_there:
            _write_to_each(hers_there, crowd, "first")
            _hear_lines(hers, crowd, "first")
            _write_to_each(hers_there, crowd, "second")
            for _ in 2 * crowd:
                hers_there.message()
        leaving.stop()

        _hear_lines(hers, crowd, "second")


def test_a_count_that_was_read_meanwhile_does_not_come_back(alice: Person, bob: Person) -> None:
    """Lines come from several processes, in any order, and a page drops one that is older than the one it has."""
    with alice.socket() as hers, bob.socket() as his:
        for number in (1, 2, 3):
            hers.write("bob", "hello")
            assert his.message().seq == number
            his.send(action="read", to="alice", version=str(number))

        entries = []
        with suppress(TimeoutError):
            while entry := his.entry(patience=1):
                entries.append(entry)

    def version(entry: Tag) -> int:
        return int(str(entry["data-version"]))

    read = [version(entry) for entry in entries if not entry.select(".unread")]
    assert max(read) == 3 + 3  # three messages, and all of them read
    assert all(version(entry) < max(read) for entry in entries if entry.select(".unread"))


def test_a_line_that_could_not_be_read_follows_when_postgresql_is_back(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    database = postgres.info.dbname
    with alice.socket() as hers, bob.socket() as his, psycopg.connect(postgres.info.dsn, dbname="template1") as outside:
        outside.autocommit = True
        hers.write("bob", "one")
        assert his.entry()
        hers.write("bob", "two")
        assert his.message().seq == 2  # its line waits a moment

        outside.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
        try:
            outside.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
            assert his.hears_nothing_for(1)
        finally:
            outside.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')

        assert "two" in his.entry().get_text()


@pytest.fixture
def crowd(site: Site, postgres: psycopg.Connection) -> list[str]:
    """The names of more people than are told of at a time."""
    names = [f"guest-{number}" for number in range(150)]
    postgres.execute("INSERT INTO users (username, password_hash) SELECT unnest(%s::text[]), ''", [names])
    return names


def _write_to_each(tab: Tab, names: list[str], body: str) -> None:
    for name in names:
        tab.write(name, body)


def _hear_lines(tab: Tab, names: list[str], body: str) -> None:
    """Wait until the line of each chat shows this body."""
    shown: dict[str, bool] = {}
    while sum(shown.values()) < len(names):
        for entry in tab.frame().select("[id^=chat-]"):
            shown[str(entry["id"])] = body in entry.get_text()
