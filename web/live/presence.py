"""Presence: who has a live tab now, and who has one in view, as leases in Redis that expire by themselves.

`live:{user}` exists for two minutes after the user last had a live tab. `view:{user}` is a sorted set of the processes
that hold a tab of theirs in view, each with the time at which its lease ends. So a process that closes its last tab
does not affect the tabs of another one, and a process that was killed counts for a minute at most. `here:{user}` is the
same for live tabs, and `online:{user}` exists while the others see the user as online.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

LIVE_SECONDS = 120
"""How long after their last live tab a user does not count as away."""
VIEW_SECONDS = 60
REFRESH_SECONDS = 30
GRACE_SECONDS = 10
"""How long after their last live tab a user still is online: a page that is opened anew closes and opens its socket."""


@dataclass(frozen=True)
class Presence:
    in_view: bool
    live_for: float
    """Seconds until the user counts as away; 0 if they already do."""


AWAY = Presence(in_view=False, live_for=0.0)


# KEYS: two for each user. ARGV: the process, when its lease ends, LIVE_SECONDS, VIEW_SECONDS, then for each user
# whether a tab is in view. One call for all users, since a restart moves thousands of them at once.
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
    """Renew the leases of users who have a tab at this process; `viewing` says whether one of their tabs is in view.

    To be called every REFRESH_SECONDS, and at once when a value changes or a user's last tab closes, since their two
    minutes begin then. Raises RedisError while Redis is away; the leases then end by themselves.
    """
    keys = [key for user_id in viewing for key in (_live(user_id), _view(user_id))]
    ends = time.time() + VIEW_SECONDS
    in_view = map(int, viewing.values())
    await redis.eval(REFRESH, len(keys), *keys, process_id, ends, LIVE_SECONDS, VIEW_SECONDS, *in_view)


async def look(redis: Redis, user_id: int) -> Presence:
    """Raises RedisError while Redis is away."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.zcount(_view(user_id), time.time(), "+inf")
        pipe.pttl(_live(user_id))
        viewers, live_ms = await pipe.execute()
    return Presence(in_view=viewers > 0, live_for=max(live_ms, 0) / 1000)


# KEYS: two for each user. ARGV: the process, the time, VIEW_SECONDS, GRACE_SECONDS, then for each user whether a tab is
# live. Answers for each of them with 1 if they came or left.
MOVE = """
local moves = {}
for at = 1, #KEYS, 2 do
    local here, online = KEYS[at], KEYS[at + 1]
    if ARGV[4 + (at + 1) / 2] == '1' then
        redis.call('ZADD', here, ARGV[2] + ARGV[3], ARGV[1])
        redis.call('EXPIRE', here, ARGV[3])
    else
        redis.call('ZADD', here, 'XX', 'LT', ARGV[2] + ARGV[4], ARGV[1])
    end
    local moved
    if redis.call('ZCOUNT', here, ARGV[2], '+inf') == 0 then
        moved = redis.call('DEL', online)
    else
        moved = redis.call('SET', online, 1, 'NX') and 1 or 0
        redis.call('EXPIRE', online, ARGV[3])
    end
    moves[(at + 1) / 2] = moved
end
return moves
"""


async def move(redis: Redis, process_id: str, live: Mapping[int, bool]) -> list[int]:
    """Say who has a live tab at this process. Returns who came or left by that, as the others see it.

    To be called like `refresh`, and again GRACE_SECONDS after a user's last tab closed. Raises RedisError while Redis
    is away.
    """
    keys = [key for user_id in live for key in (f"here:{user_id}", _online(user_id))]
    moment = (time.time(), VIEW_SECONDS, GRACE_SECONDS)
    moves = await redis.eval(MOVE, len(keys), *keys, process_id, *moment, *map(int, live.values()))
    return [user_id for user_id, moved in zip(live, moves, strict=True) if moved]


async def online(redis: Redis, user_ids: Sequence[int]) -> set[int]:
    """Who of these users is online. Raises RedisError while Redis is away."""
    found = await redis.mget([_online(user_id) for user_id in user_ids]) if user_ids else []
    return {user_id for user_id, value in zip(user_ids, found, strict=True) if value}


def _online(user_id: int) -> str:
    return f"online:{user_id}"


def _live(user_id: int) -> str:
    return f"live:{user_id}"


def _view(user_id: int) -> str:
    return f"view:{user_id}"
