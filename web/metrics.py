"""What Prometheus may ask: counters of this process, or of all of them where several share a folder for it."""

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

MESSAGES = Counter("knock_messages", "Messages persisted")
BATCH = Histogram("knock_batch_messages", "Messages in one transaction", buckets=(1, 2, 5, 10, 20, 50, 100, 200))
REFUSED = Counter("knock_sends_refused", "Sends refused, by reason", ["reason"])
CACHE = Counter("knock_cache", "Cached message lists: hit, miss, stale, fill", ["event"])
SOCKETS = Gauge("knock_sockets", "Open sockets", multiprocess_mode="livesum")
CUT = Counter("knock_sockets_cut", "Sockets closed by the server, by close code", ["code"])


def text() -> bytes:
    """The figures in Prometheus's text format."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest(REGISTRY)
