"""What an operator sees: health, figures, and the page for errors."""

import re

import httpx2 as httpx
import psycopg

from tests import site as sites
from tests.site import Page, Person, Site, eventually


def figure(site: Site, name: str) -> float:
    """The sum over all processes."""
    found = re.findall(rf"^{re.escape(name)} (.+)$", site.metrics().text, re.MULTILINE)
    return sum(map(float, found))


def test_a_site_that_can_serve_says_so(site: Site) -> None:
    assert site.client().get("/livez").status_code == 200
    ready = site.client().get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"postgresql": "ok", "redis": "ok"})


def test_figures_are_prometheus_text(site: Site) -> None:
    answer: httpx.Response = site.metrics()

    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE knock_messages_total counter" in answer.text


def test_prometheus_sees_what_a_process_does_and_forgets_the_sockets_of_one_that_is_killed(
    environ: dict[str, str], clean: None
) -> None:
    with sites.running(environ, WEB_PROCESSES="1") as site:
        alice, bob = site.person("alice"), site.person("bob")
        with alice.socket() as tab, bob.socket():
            eventually(lambda: figure(site, "knock_sockets") == 2)
            alice.post("bob", "hello")
            assert tab.message()
        for _ in range(3):
            alice.page("/chat/bob")

        assert figure(site, "knock_messages_total") == 1
        cache = [figure(site, f'knock_cache_total{{event="{event}"}}') for event in ("miss", "fill", "hit")]
        assert cache == [1, 1, 2]
        eventually(lambda: figure(site, "knock_sockets") == 0)

        with alice.socket() as tab:
            eventually(lambda: figure(site, "knock_sockets") == 1)
            (worker,) = site.workers

            worker.kill()

            assert tab.close_code() == 1006
        eventually(lambda: site.answers() and figure(site, "knock_sockets") == 0, patience=30)
        assert alice.http.get("/").status_code == 200


def test_an_error_of_ours_is_a_page_that_says_so(alice: Person, postgres: psycopg.Connection) -> None:
    alice.http.headers["user-agent"] = "unexpected"
    postgres.execute("ALTER TABLE sessions ADD CONSTRAINT expected CHECK (user_agent <> 'unexpected')")
    try:
        page = Page(alice.log_in())
    finally:
        postgres.execute("ALTER TABLE sessions DROP CONSTRAINT expected")

    assert page.status == 500
    assert "Something went wrong on our side." in page.one("main").get_text()
    assert Person("alice", alice.site).log_in().status_code == 303
