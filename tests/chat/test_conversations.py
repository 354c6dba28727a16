"""The people of a conversation: remembered by every process, and forgotten when one of them changes."""

import asyncio
from collections.abc import Sequence

import psycopg

from tests import site as sites
from tests.faults.proxy import Proxy
from tests.site import Person, Tab
from web import settings
from web.chat import conversations
from web.live.socket import RESTART
from web.site import running


def rename(postgres: psycopg.Connection, person: Person, name: str) -> int:
    """Change their name in PostgreSQL only. Returns their id."""
    query = "UPDATE users SET username = %s WHERE username = %s RETURNING id"
    ((user,),) = postgres.execute(query, [name, person.username]).fetchall()
    person.username = name
    return int(user)


def test_a_notice_makes_every_process_forget_a_name(
    alice: Person, bob: Person, environ: dict[str, str], postgres: psycopg.Connection
) -> None:
    async def notify(tabs: Sequence[Tab], user: int) -> None:
        async with running(settings.read(environ)) as parts:
            parts["hub"].notify(conversations.PEOPLE_CHANGED, [user])
            parts["hub"].publish([user], "<p id=notified>")  # comes when the process has heard the notice
            for tab in tabs:
                await asyncio.to_thread(tab.next, "#notified")

    def says(tab: Tab, to: str, body: str) -> None:
        tab.write(to, body)
        assert [other.message().body for other in hers] == [body, body]

    alice.post("bob", "the first message")  # a process remembers a conversation once it has looked it up
    with alice.sockets() as hers, bob.sockets() as his:
        for tab in hers:
            says(tab, "bob", "hello")
        user = rename(postgres, bob, "robert")
        for tab in hers:
            says(tab, "bob", "still by the old name")

        asyncio.run(notify(his, user))

        for tab in hers:
            tab.write("bob", "by the old name")
            assert "Nobody here has that name" in tab.refusal().get_text()
            says(tab, "robert", "by the new name")


def test_while_redis_is_away_no_name_is_remembered(
    environ: dict[str, str], clean: None, postgres: psycopg.Connection
) -> None:
    with (
        Proxy(environ["REDIS_URL"].removeprefix("unix://")).running() as proxy,
        sites.in_this_process(environ, REDIS_URL=f"redis://127.0.0.1:{proxy.port}") as site,
    ):
        alice, bob = site.person("alice"), site.person("bob")
        assert status(alice, "bob") == status(alice, "bob") == 303
        rename(postgres, bob, "robert")
        assert status(alice, "bob") == 303

        proxy.refuse()
        sites.eventually(lambda: status(alice, "bob") == 404)
        assert status(alice, "robert") == 303

        rename(postgres, bob, "rob")
        with alice.socket() as hers:
            proxy.accept()
            assert hers.close_code() == RESTART
        assert status(alice, "robert") == 404
        assert status(alice, "rob") == 303


def status(person: Person, to: str) -> int:
    return person.post(to, "hello").status_code
