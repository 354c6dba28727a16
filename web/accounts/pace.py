"""How fast something may be done: by one user, with frames of all their sockets and by HTTP together."""

import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

REMEMBERED = 10_000
"""Buckets that a process keeps at most."""
BURSTS = 5
"""How many bursts may be refused in a row before there is no excuse for them."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float
    refused: int = 0
    """How often it was empty since it was last full."""


class Pace:
    """Token buckets in this process, by user for instance: `rate` actions a second, `burst` at once; 0 is no limit."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def allows(self, key: Hashable) -> bool:
        """Take a token of the bucket, if there is one."""
        if not self._rate:
            return True
        now = time.monotonic()
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= REMEMBERED:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = _Bucket(self._burst, now)
        self._buckets.move_to_end(key)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens == self._burst:
            bucket.refused = 0
        if bucket.tokens < 1:
            bucket.refused += 1
            return False
        bucket.tokens -= 1
        return True

    def is_abused(self, key: Hashable) -> bool:
        """Whether somebody goes on and on, although the bucket is empty."""
        bucket = self._buckets.get(key)
        return bucket is not None and bucket.refused > BURSTS * self._burst
