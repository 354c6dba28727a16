"""The scenarios, by the names that `--only` takes."""

from collections.abc import Callable

from bench.run import Run
from bench.scenarios import browser, ceilings, life, messages, pages, scale, search, sockets

SCENARIOS: dict[str, Callable[[Run], None]] = {
    "messages": messages.of_200,
    "crowd": messages.of_1000,
    "latency": messages.latency,
    "processes": messages.processes,
    "silent": messages.silent,
    "sockets": sockets.idle,
    "fan-out": sockets.fan_out,
    "page": pages.page,
    "post": pages.post,
    "inserts": ceilings.inserts,
    "start": sockets.start,
    "scale": scale.scale,
    "life": life.life,
    "search": search.search,
    "browser": browser.browser,
}
