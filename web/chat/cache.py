"""The latest messages of conversations, in Redis: read when they are there, filled when not, never needed.

A cached list is a Redis list. Its head holds the version and the last `seq` at which PostgreSQL held exactly this; the
rest are the rendered messages, oldest first. They are one key, so that they come and go together. The higher version
wins, and readers compare it with the conversation's version in PostgreSQL.
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
"""A list that nobody opens expires; a key that expires may also be evicted by `volatile-lru`."""

LONG = 10 * 1024
"""Characters. A longer message is not appended to a list: with LENGTH of them it would take too much of Redis."""

_RELEASE = fragments.release()

# KEYS: the lists. ARGV: LENGTH, SECONDS, then as JSON for each list the version before, the version, the last seq and
# the messages that were appended or changed, as pairs of seq and HTML. As arguments of their own the client would take
# several times as long. A list that missed a change is dropped, for a reader to fill again.
UPDATE = """
for at, change in ipairs(cjson.decode(ARGV[3])) do
    local key, before, version, last, messages = KEYS[at], unpack(change)
    local held, held_last = string.match(redis.call('LINDEX', key, 0) or '', '^(%d+):(%d+)')
    held, held_last = tonumber(held), tonumber(held_last)
    if held and held < version then
        if held ~= before then
            redis.call('DEL', key)
        else
            redis.call('LPOP', key)
            local appended, first = {}, held_last - redis.call('LLEN', key) + 1
            for _, message in ipairs(messages) do
                local seq, html = unpack(message)
                if seq > held_last then
                    appended[#appended + 1] = html
                elseif seq >= first then
                    redis.call('LSET', key, seq - first, html)
                end
            end
            if #appended > 0 then
                redis.call('RPUSH', key, unpack(appended))
                redis.call('LTRIM', key, -tonumber(ARGV[1]), -1)
            end
            redis.call('LPUSH', key, string.format('%d:%d', version, last))
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
        """The oldest one's; `seq` has no gaps."""
        return self.last_seq - len(self.messages) + 1

    @property
    def html(self) -> Markup:
        # Our own template rendered each of them, and escaped what a user wrote.
        return Markup("\n".join(self.messages))  # noqa: S704


class Change(NamedTuple):
    """Messages that one transaction appended to a conversation, or changed in it, rendered."""

    conversation_id: int
    before: int
    """The conversation's version before."""
    version: int
    last_seq: int
    messages: Sequence[tuple[int, str]]
    """Pairs of `seq` and HTML, in the order of `seq`."""


class Evaluates(Protocol):
    """A Redis client, or a pipeline of one."""

    def eval(self, script: str, numkeys: int, *keys_and_args: str) -> object: ...


class Cache:
    """The cached lists."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, conversation_id: int, version: int) -> Latest | None:
        """The list, if it is there and not older than `version`, which the caller just read from PostgreSQL."""
        cached = await self._store.attempt(
            cast(Awaitable[list[str]], self._store.client.lrange(_key(conversation_id), 0, -1))
        )
        if not cached:
            metrics.CACHE["miss"].inc()
            return None
        head, *messages = cached
        held, last_seq = map(int, head.split(":"))
        if held < version:
            metrics.CACHE["stale"].inc()
            return None
        metrics.CACHE["hit"].inc()
        if sum(map(len, messages)) * 4 > fragments.PAGE_BYTES:  # a character takes four bytes at most
            messages = fragments.fitting(reversed(messages))[::-1]
        return Latest(held, last_seq, messages)

    async def fill(self, conversation_id: int, latest: Latest) -> None:
        """Keep the list, unless Redis holds a later one."""
        metrics.CACHE["fill"].inc()
        head = f"{latest.version}:{latest.last_seq}"
        args = (str(latest.version), head, str(SECONDS), *latest.messages)
        await self._store.attempt(self._store.client.eval(FILL, 1, _key(conversation_id), *args))

    async def forget(self, conversation_ids: Sequence[int]) -> None:
        """Drop the lists, for a reader to fill again: a name in them has changed."""
        if conversation_ids:
            await self._store.attempt(self._store.client.delete(*map(_key, conversation_ids)))


def update(pipeline: Evaluates, changes: Sequence[Change]) -> None:
    """Add changes of lists to a pipeline; one call for all of them, since each call has its price."""
    keys = [_key(change.conversation_id) for change in changes]
    values = [
        # No list is at version -1, so one that would get too long is dropped like one that missed a change.
        (-1 if any(len(html) > LONG for _, html in messages) else before, version, last_seq, messages)
        for _, before, version, last_seq, messages in changes
    ]
    pipeline.eval(UPDATE, len(keys), *keys, str(LENGTH), str(SECONDS), orjson.dumps(values).decode())


def _key(conversation_id: int) -> str:
    return f"latest:{_RELEASE}:{conversation_id}"
