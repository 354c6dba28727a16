"""The chats that are compared: how each is started, spoken to, and asked afterwards what it kept."""

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
    """Where its messages are; None where it keeps nothing."""
    kept: str = ""
    """A query of nonce, author and body, by the beginning of the nonce."""


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
    """One contestant, running, with its people at their sockets."""

    base: Base
    contestant: Contestant
    server: Server
    load: Load
    count: int

    @property
    def parts(self) -> dict[str, Part]:
        return {**self.base.parts, "web": self.server.part, "load": self.load.part}

    def audit(self, answer: dict[str, object]) -> int:
        """How many rows of a run are there, each with the right author and text. Raises AssertionError."""
        if self.contestant.database is None:
            return int(str(answer["delivered"]))
        with self.base.postgres(self.contestant.database) as postgres:
            rows = postgres.execute(self.contestant.kept, [f"{answer['run']}%"]).fetchall()
        for nonce, author, body in rows:
            sender = int(nonce[6:]) * 7919 % self.count
            assert author == people.name(sender), f"{nonce} is kept as {author}'s"
            assert body == nonce + LINE, f"{nonce} is kept as {body!r}"
        assert len({row[0] for row in rows}) == len(rows), "a message was kept twice"
        return len(rows)


@contextmanager
def racing(base: Base, which: str, count: int, processes: int = 1) -> Iterator[Race]:
    """`count` people in pairs, each with an open socket, who have written to each other already."""
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
        generator.do("run", rate=max(100, count / 4), seconds=4)  # everybody writes once: warm, and acquainted
        yield Race(base, contestant, server, generator, count)
