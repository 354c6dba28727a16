"""The figures for Prometheus: those of all web processes together, added up in a folder that they share."""

import asyncio
import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from sqlalchemy.pool import QueuePool

MESSAGES = Counter("knock_messages", "Messages persisted")
BATCH = Histogram(
    "knock_batch_messages", "Messages in one transaction", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
ACKNOWLEDGED = Histogram(
    "knock_acknowledgement_seconds",
    "From the arrival of a message to its acknowledgement: of each transaction the message that waited longest",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
REFUSED = Counter("knock_sends_refused", "Sends refused, by reason", ["reason"])
_CACHE = Counter("knock_cache", "Cached message lists: hit, miss, stale, fill", ["event"])
CACHE = {event: _CACHE.labels(event) for event in ("hit", "miss", "stale", "fill")}
SOCKETS = Gauge("knock_sockets", "Open sockets", multiprocess_mode="livesum")
TURNED_AWAY = Counter("knock_connections_turned_away", "Connections closed because their address had too many open")
FILES = Gauge("knock_open_files_limit", "Files that a web process may have open", multiprocess_mode="livemin")
CUT = Counter("knock_sockets_cut", "Sockets closed by the server, by close code", ["code"])

LOOP_LAG = Histogram(
    "knock_loop_lag_seconds",
    "How late the event loop woke up, once a second",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
_POOL = Gauge(
    "knock_database_connections", "Connections of the pool: used, idle", ["state"], multiprocess_mode="livesum"
)
POOL = {state: _POOL.labels(state) for state in ("used", "idle")}
OUTBOX_AGE = Gauge(
    "knock_outbox_age_seconds",
    "How long the notification that is due first has been waiting for a worker",
    multiprocess_mode="mostrecent",
)


async def watch_forever(pool: QueuePool) -> None:
    """Looks at the event loop and at the pool, once a second."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + 1
        await asyncio.sleep(1)
        LOOP_LAG.observe(max(0.0, loop.time() - due))
        POOL["used"].set(pool.checkedout())
        POOL["idle"].set(pool.checkedin())


def _forget_the_dead() -> None:
    """Leave out the sockets of processes that were killed before they could count them as closed."""
    for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


def text() -> bytes:
    """The figures in Prometheus's text format."""
    _forget_the_dead()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
