"""The latest messages of a conversation, in Redis: read when they are there, filled when not, never needed.

A cached list is a Redis list whose head says at which version and at which last `seq` PostgreSQL held just this; the
rest are the rendered messages, oldest first. Version and messages are one key, so that they come and go together. The
higher version wins, and whoever reads compares it with the conversation's version in PostgreSQL.
"""

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol, cast

import orjson
from markupsafe import Markup

from web import metrics
from web.chat import fragments
from web.data.store import Store

LENGTH = 50
"""Messages kept of a conversation."""

SECONDS = 7 * 86400
"""A list that nobody opens goes by itself; a key with an end may also be evicted by `volatile-lru`."""

# Other templates are another list: after an upgrade nobody is shown what the older ones rendered.
_RELEASE = fragments.release()

# KEYS: the lists. ARGV: LENGTH, SECONDS, then in JSON for each list the version before, the new head, the new version
# and the new messages; the client takes several times as long for arguments of their own. A list that missed a change
# is dropped, for a reader to fill again.
APPEND = """
for at, change in ipairs(cjson.decode(ARGV[3])) do
    local key, before, head, version, messages = KEYS[at], unpack(change)
    local held_head = redis.call('LINDEX', key, 0)
    local held = held_head and tonumber(string.match(held_head, '^%d+'))
    if held and held < version then
        if held ~= before then
            redis.call('DEL', key)
        else
            redis.call('RPUSH', key, unpack(messages))
            redis.call('LTRIM', key, -tonumber(ARGV[1]), -1)
            if redis.call('LINDEX', key, 0) == held_head then redis.call('LPOP', key) end
            redis.call('LPUSH', key, head)
            redis.call('EXPIRE', key, ARGV[2])
        end
    end
end
"""

# KEYS[1]: the list. ARGV: the version, the head, SECONDS, the messages.
FILL = """
local head = redis.call('LINDEX', KEYS[1], 0)
if head and tonumber(string.match(head, '^%d+')) >= tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[1], ARGV[2], unpack(ARGV, 4))
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""


class Latest(NamedTuple):
    """The latest messages of a conversation as PostgreSQL held them at `version`, rendered, oldest first."""

    version: int
    last_seq: int
    messages: Sequence[str]

    @property
    def first_seq(self) -> int:
        """The oldest one's; there is no gap, since `seq` has none."""
        return self.last_seq - len(self.messages) + 1

    @property
    def html(self) -> Markup:
        # Our own template rendered each of them, and escaped what a user wrote.
        return Markup("\n".join(self.messages))  # noqa: S704

    @property
    def head(self) -> str:
        return f"{self.version}:{self.last_seq}"


class Change(NamedTuple):
    """Messages that were added to the list that was at version `before`; `after` has only these."""

    conversation_id: int
    before: int
    after: Latest


class Evaluates(Protocol):
    """A Redis client, or a pipeline of one."""

    def eval(self, script: str, numkeys: int, *keys_and_args: str) -> object: ...


class Cache:
    """The cached lists."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, conversation_id: int, version: int) -> Latest | None:
        """The list, where it is there and not older than `version`, which the caller just read in PostgreSQL."""
        cached = await self._store.ask(
            cast(Awaitable[list[str]], self._store.client.lrange(_key(conversation_id), 0, -1))
        )
        if not cached:
            metrics.CACHE["miss"].inc()
            return None
        held, last_seq = map(int, cached[0].split(":"))
        if held < version:
            metrics.CACHE["stale"].inc()
            return None
        metrics.CACHE["hit"].inc()
        return Latest(held, last_seq, cached[1:])

    async def fill(self, conversation_id: int, latest: Latest) -> None:
        """Keep the list, unless Redis holds a later one."""
        metrics.CACHE["fill"].inc()
        args = (str(latest.version), latest.head, str(SECONDS), *latest.messages)
        await self._store.ask(self._store.client.eval(FILL, 1, _key(conversation_id), *args))


def append(pipeline: Evaluates, changes: Sequence[Change]) -> None:
    """Say to a pipeline what was added to lists; one call for all of them, since each call has its price."""
    keys = [_key(change.conversation_id) for change in changes]
    added = [(before, after.head, after.version, after.messages) for _, before, after in changes]
    pipeline.eval(APPEND, len(keys), *keys, str(LENGTH), str(SECONDS), orjson.dumps(added).decode())


def _key(conversation_id: int) -> str:
    return f"latest:{_RELEASE}:{conversation_id}"
