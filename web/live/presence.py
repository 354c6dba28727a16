"""Presence: who has a live tab now, and who has one in view, as leases in Redis that expire by themselves.

`live:{user}` exists for two minutes after the user last had a live tab. `view:{user}` is a sorted set of the processes
that hold a tab of theirs in view, each with the time at which its lease ends. So a process that closes its last tab
does not affect the tabs of another one, and a process that was killed counts for a minute at most. `here:{user}` is the
same for live tabs, and `seen-online` has the users whom the others see as online, each with the time until which that
holds.
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


ONLINE = "seen-online"

# KEYS: ONLINE, then one for each user. ARGV: the process, the time, VIEW_SECONDS, GRACE_SECONDS, then two for each
# user: their id, and whether a tab is live. Answers for each of them with 1 if they came or left.
MOVE = """
local moves = {}
for at = 2, #KEYS do
    local here, user = KEYS[at], ARGV[2 * at + 1]
    if ARGV[2 * at + 2] == '1' then
        redis.call('ZADD', here, ARGV[2] + ARGV[3], ARGV[1])
        redis.call('EXPIRE', here, ARGV[3])
    else
        redis.call('ZADD', here, 'XX', 'LT', ARGV[2] + ARGV[4], ARGV[1])
    end
    local moved
    if redis.call('ZCOUNT', here, ARGV[2], '+inf') == 0 then
        moved = redis.call('ZREM', KEYS[1], user)
    else
        local until_when = redis.call('ZSCORE', KEYS[1], user)
        moved = until_when and tonumber(until_when) >= tonumber(ARGV[2]) and 0 or 1
        redis.call('ZADD', KEYS[1], ARGV[2] + ARGV[3], user)
    end
    moves[at - 1] = moved
end
return moves
"""
# KEYS: ONLINE. ARGV: the time, how many at most.
LOSE = """
local lost = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
if #lost > 0 then
    redis.call('ZREM', KEYS[1], unpack(lost))
end
return lost
"""


async def move(redis: Redis, process_id: str, live: Mapping[int, bool]) -> list[int]:
    """Say who has a live tab at this process. Returns who came or left by that, as the others see it.

    To be called like `refresh`, and again GRACE_SECONDS after a user's last tab closed. Raises RedisError while Redis
    is away.
    """
    keys = [f"here:{user_id}" for user_id in live]
    moment = (time.time(), VIEW_SECONDS, GRACE_SECONDS)
    users = [value for user_id, is_live in live.items() for value in (user_id, int(is_live))]
    moves = await redis.eval(MOVE, 1 + len(keys), ONLINE, *keys, process_id, *moment, *users)
    return [user_id for user_id, moved in zip(live, moves, strict=True) if moved]


async def lose(redis: Redis, most: int) -> list[int]:
    """At most so many users who no longer are online, since their process was killed. Each is returned once.

    Raises RedisError while Redis is away.
    """
    return [int(user_id) for user_id in await redis.eval(LOSE, 1, ONLINE, time.time(), most)]


async def online(redis: Redis, user_ids: Sequence[int]) -> set[int]:
    """Who of these users is online. Raises RedisError while Redis is away."""
    found = await redis.zmscore(ONLINE, list(map(str, user_ids))) if user_ids else []
    now = time.time()
    return {user_id for user_id, until in zip(user_ids, found, strict=True) if until is not None and until >= now}


def _live(user_id: int) -> str:
    return f"live:{user_id}"


def _view(user_id: int) -> str:
    return f"view:{user_id}"
