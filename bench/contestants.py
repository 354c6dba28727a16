"""The chats that are compared: how to start each, which frames it takes, and how to read what it stored."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from bench import load, people, servers
from bench.dialects import LINE
from bench.load import Load
from bench.machine import Part
from bench.servers import Base, Server


@dataclass(frozen=True)
class Contestant:
    title: str
    start: Callable[[Base], AbstractContextManager[Server]]
    dialect: str
    database: str | None
    """None if it stores nothing."""
    stored: str = ""
    """A query for nonce, author and body, by the prefix of the nonce."""


_PEER = "SELECT nonce, author, body FROM messages WHERE nonce LIKE %s"

CONTESTANTS = {
    "knock": Contestant(
        "Knock",
        servers.knock,
        "knock",
        "postgres",
        "SELECT nonce, username, body FROM messages JOIN users ON users.id = author_id WHERE nonce LIKE %s",
    ),
    "socketio": Contestant("Socket.IO + pg", servers.socket_io, "socket.io", "socketio", _PEER),
    "usual": Contestant("FastAPI, as usual", servers.usual, "json", "usual", _PEER),
    "relay": Contestant("bare uvicorn relay", lambda _base: servers.bare("relay"), "json", None),
}


@dataclass
class Race:
    """A running contestant whose people have open sockets."""

    base: Base
    contestant: Contestant
    server: Server
    load: Load
    count: int

    @property
    def parts(self) -> dict[str, Part]:
        return {**self.base.parts, "web": self.server.part, "load": self.load.part}

    def audit(self, answer: dict[str, object]) -> int:
        """How many messages of a run are stored. Raises AssertionError if an author or text is wrong."""
        if self.contestant.database is None:
            return int(str(answer["delivered"]))
        with self.base.postgres(self.contestant.database) as postgres:
            rows = postgres.execute(self.contestant.stored, [f"{answer['run']}%"]).fetchall()
        for nonce, author, body in rows:
            sender = int(nonce[6:]) * 7919 % self.count
            assert author == people.name(sender), f"{nonce} is stored as {author}'s"
            assert body == nonce + LINE, f"{nonce} is stored as {body!r}"
        assert len({row[0] for row in rows}) == len(rows), "a message was stored twice"
        return len(rows)


@contextmanager
def racing(base: Base, which: str, count: int, processes: int = 1) -> Iterator[Race]:
    """A race of `count` people in pairs, each with an open socket and one message sent."""
    contestant = CONTESTANTS[which]
    start = contestant.start if processes == 1 else (lambda base: servers.knock(base, processes))
    names = [people.name(number) for number in range(count)]
    if which == "knock":
        with base.postgres() as postgres:
            people.make(postgres, count)
            cookies = people.cookies(postgres, base.settings, names)
    else:
        cookies = [f"user={each}" for each in names]
    with start(base) as server, load.running() as generator:
        to = [people.partner(number) for number in range(count)]
        generator.do("open", host="127.0.0.1", port=server.port, dialect=contestant.dialect, cookies=cookies, to=to)
        generator.do("run", rate=max(100, count / 4), seconds=4)  # everybody sends a message: warms up, makes the chats
        yield Race(base, contestant, server, generator, count)
