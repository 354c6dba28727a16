"""Refuses a Redis or Valkey Cluster."""

from contextlib import suppress

import redis

from web.server import CannotStart


def refuse(url: str) -> None:
    """Raises CannotStart for the address of a cluster: Knock's keys are not made for one, and fail one by one.

    Says nothing if the server is away, which Knock can do without.
    """
    with redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2) as client, suppress(redis.RedisError):
        if client.info("cluster").get("cluster_enabled"):
            raise CannotStart("REDIS_URL is the address of a cluster; Knock needs a single Redis or Valkey.")
