"""Presence: who has a live tab now, and who is looking at it, as leases in Redis that expire by themselves.

`live:{user}` exists while a tab of theirs was live within the last two minutes. `view:{user}` is a sorted set of the
processes that hold a tab of theirs in view, each with the moment at which its word ends, so that one process closing
its last tab says nothing about the tabs of another, and a process that was killed is believed for a minute at most.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from redis.asyncio import Redis

LIVE_SECONDS = 120
"""For so long after their last live tab somebody is not away."""
VIEW_SECONDS = 60
REFRESH_SECONDS = 30


@dataclass(frozen=True)
class Presence:
    in_view: bool
    live_for: float
    """Seconds until they count as away; 0 where they do already."""


AWAY = Presence(in_view=False, live_for=0.0)


# KEYS: each user's two. ARGV: the process, when its word ends, LIVE_SECONDS, VIEW_SECONDS, then whether each user
# looks. One call, since a crowd comes and goes at once.
REFRESH = """
for at = 1, #KEYS, 2 do
    redis.call('SET', KEYS[at], 1, 'EX', ARGV[3])
    if ARGV[4 + (at + 1) / 2] == '1' then
        redis.call('ZADD', KEYS[at + 1], ARGV[2], ARGV[1])
        redis.call('EXPIRE', KEYS[at + 1], ARGV[4])
    else
        redis.call('ZREM', KEYS[at + 1], ARGV[1])
    end
end
"""


async def refresh(redis: Redis, process_id: str, viewing: Mapping[int, bool]) -> None:
    """Each of these users had a tab at this process a moment ago; `viewing` says whether one of them is in view.

    To be said again every REFRESH_SECONDS, and at once when that changes or their last tab closes: their two minutes
    begin then. Raises RedisError while Redis is away; the leases then end by themselves.
    """
    keys = [key for user_id in viewing for key in (_live(user_id), _view(user_id))]
    ends = time.time() + VIEW_SECONDS
    looks = map(int, viewing.values())
    await redis.eval(REFRESH, len(keys), *keys, process_id, ends, LIVE_SECONDS, VIEW_SECONDS, *looks)


async def look(redis: Redis, user_id: int) -> Presence:
    """Where this user is now. Raises RedisError while Redis is away."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.zcount(_view(user_id), time.time(), "+inf")
        pipe.pttl(_live(user_id))
        viewers, live_ms = await pipe.execute()
    return Presence(in_view=viewers > 0, live_for=max(live_ms, 0) / 1000)


def _live(user_id: int) -> str:
    return f"live:{user_id}"


def _view(user_id: int) -> str:
    return f"view:{user_id}"
