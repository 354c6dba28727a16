"""For whoever looks after the site."""

import re

import httpx2 as httpx

from tests import site as sites
from tests.site import Person, Site, eventually


def figure(site: Site, name: str) -> float:
    """The sum of both processes' figures."""
    found = re.findall(rf"^{re.escape(name)} (.+)$", site.client().get("/metrics").text, re.MULTILINE)
    return sum(map(float, found))


def test_a_site_that_can_serve_says_so(site: Site) -> None:
    assert site.client().get("/livez").status_code == 200
    ready = site.client().get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"postgresql": "ok", "redis": "ok"})


def test_prometheus_sees_messages_sockets_and_the_cache(alice: Person, bob: Person) -> None:
    site = alice.site
    before = {name: figure(site, name) for name in ("knock_messages_total", 'knock_cache_total{event="hit"}')}

    with alice.socket(), bob.socket() as his:
        eventually(lambda: figure(site, "knock_sockets") == 2)
        alice.post("bob", "hello")
        assert his.message()
    for _ in range(3):
        alice.page("/chat/bob")

    assert figure(site, "knock_messages_total") == before["knock_messages_total"] + 1
    assert figure(site, 'knock_cache_total{event="hit"}') >= before['knock_cache_total{event="hit"}'] + 2
    assert figure(site, 'knock_cache_total{event="miss"}') >= 1
    assert figure(site, 'knock_cache_total{event="fill"}') >= 1
    eventually(lambda: figure(site, "knock_sockets") == 0)


def test_figures_are_prometheus_text(site: Site) -> None:
    answer: httpx.Response = site.client().get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE knock_messages_total counter" in answer.text


def test_a_process_that_is_killed_is_replaced_and_its_sockets_are_forgotten(
    environ: dict[str, str], clean: None
) -> None:
    with sites.running(environ, WEB_PROCESSES="1") as site:
        alice = site.person("alice")
        with alice.socket() as tab:
            eventually(lambda: figure(site, "knock_sockets") == 1)
            (worker,) = site.workers

            worker.kill()

            assert tab.close_code() == 1006
        eventually(lambda: site.answers() and figure(site, "knock_sockets") == 0, patience=30)
        assert alice.http.get("/").status_code == 200
