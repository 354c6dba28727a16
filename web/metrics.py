"""The figures for Prometheus: those of all web processes together, added up in a folder that they share."""

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

MESSAGES = Counter("knock_messages", "Messages persisted")
BATCH = Histogram(
    "knock_batch_messages", "Messages in one transaction", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
REFUSED = Counter("knock_sends_refused", "Sends refused, by reason", ["reason"])
_CACHE = Counter("knock_cache", "Cached message lists: hit, miss, stale, fill", ["event"])
CACHE = {event: _CACHE.labels(event) for event in ("hit", "miss", "stale", "fill")}
SOCKETS = Gauge("knock_sockets", "Open sockets", multiprocess_mode="livesum")
TURNED_AWAY = Counter("knock_connections_turned_away", "Connections closed because their address had too many open")
FILES = Gauge("knock_open_files_limit", "Files that a web process may have open", multiprocess_mode="livemin")
CUT = Counter("knock_sockets_cut", "Sockets closed by the server, by close code", ["code"])


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
