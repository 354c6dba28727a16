"""How fast one user may act: frames of all their sockets, and messages by HTTP, together."""

import time
from collections import OrderedDict
from dataclasses import dataclass

REMEMBERED = 10_000
"""Users whose buckets a process keeps at most."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Pace:
    """Token buckets by user, in this process: `rate` actions a second, and twice as many at once; 0 is no limit."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._buckets: OrderedDict[int, _Bucket] = OrderedDict()

    def allows(self, user_id: int) -> bool:
        """Take a token of the user's, if there is one."""
        if not self._rate:
            return True
        now = time.monotonic()
        bucket = self._buckets.get(user_id)
        if bucket is None:
            if len(self._buckets) >= REMEMBERED:
                self._buckets.popitem(last=False)
            bucket = self._buckets[user_id] = _Bucket(2 * self._rate, now)
        self._buckets.move_to_end(user_id)
        bucket.tokens = min(2 * self._rate, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
