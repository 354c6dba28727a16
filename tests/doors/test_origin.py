"""The checks before every view: which pages may send a form, and what a browser may do with the answer."""

from collections.abc import Iterator

import pytest
from starlette.datastructures import Headers
from starlette.types import Scope
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests import site as sites
from tests.site import PASSWORD, Page, Person, Site
from web import settings
from web.proxies import HINTS, Proxies


@pytest.mark.parametrize("path", ["/login", "/register", "/", "/users", "/chat/bob", "/settings", "/nowhere", "/livez"])
def test_every_answer_has_a_strict_policy(alice: Person, bob: Person, path: str) -> None:
    headers = alice.http.get(path).headers

    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "none"}, 303),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_another_sites_page_cannot_write(alice: Person, bob: Person, headers: dict[str, str], status: int) -> None:
    answer = alice.http.post("/chat/bob/messages", data={"body": "x", "nonce": "n"}, headers=headers)

    assert answer.status_code == status
    assert len(bob.page("/chat/alice").bodies) == (status == 303)


def test_an_own_origin_may_write(alice: Person, bob: Person) -> None:
    headers = {"Origin": alice.site.url}
    assert alice.http.post("/chat/bob/messages", data={"body": "x", "nonce": "n"}, headers=headers).status_code == 303


def test_nobody_is_logged_in_or_out_by_another_site(alice: Person) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    form = {"username": "alice", "password": PASSWORD}

    assert alice.http.post("/login", data=form, headers=foreign).status_code == 403
    assert alice.http.post("/logout", headers=foreign).status_code == 403
    assert alice.http.get("/").status_code == 200


@pytest.mark.parametrize("path", ["/users", "/chat/bob", "/chat/bob/messages?before=9", "/settings"])
def test_a_stranger_is_sent_to_log_in(site: Site, path: str) -> None:
    answer = site.client().get(path)

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next=")


def test_an_address_that_is_not_there_says_so(site: Site) -> None:
    page = Page(site.client().get("/nowhere"))

    assert page.status == 404
    assert "nothing at this address" in page.html.get_text()


def test_too_much_is_refused(alice: Person, bob: Person) -> None:
    assert alice.post("bob", "x" * 300_000).status_code == 413


def test_a_form_of_unknown_length_is_refused(alice: Person, bob: Person) -> None:
    form = "application/x-www-form-urlencoded"
    whole, chunked = b"body=whole&nonce=1", iter([b"body=chunked", b"&nonce=2"])
    for content, status in ((whole, 303), (chunked, 413)):
        answer = alice.http.post("/chat/bob/messages", content=content, headers={"Content-Type": form})
        assert answer.status_code == status

    assert bob.page("/chat/alice").bodies == ["whole"]


def test_files_of_the_site_may_be_kept_for_ever(site: Site) -> None:
    links = Page(site.client().get("/login")).html.select("link[href*=static]")

    assert links
    for link in links:
        answer = site.client().get(str(link["href"]))
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert site.client().get("/static/../web/settings.py").status_code == 404
    assert site.client().get("/static/%2e%2e/web/settings.py").status_code == 404


HTTPS = {"SITE_URL": "https://chat.example"}


@pytest.fixture
def https(environ: dict[str, str], clean: None) -> Iterator[Site]:
    """A site whose people come by https, to a proxy."""
    with sites.in_this_process(environ, **HTTPS) as site:
        yield site


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("https://chat.example", "chat.example", 303),
        ("http://chat.example", "chat.example", 403),
        ("https://chat.example:444", "chat.example", 403),
        ("https://evil.example", "chat.example", 403),
    ],
)
def test_behind_https_the_scheme_of_the_origin_counts(https: Site, origin: str, host: str, status: int) -> None:
    https.person("alice")
    form = {"username": "alice", "password": PASSWORD}

    answer = https.client().post("/login", data=form, headers={"Origin": origin, "Host": host})

    assert answer.status_code == status


@pytest.mark.parametrize("host", ["knock", "knock.lan:8000", "192.168.1.5:8000", "[fd00::5]:8000"])
def test_on_a_lan_a_site_has_many_names(alice: Person, host: str) -> None:
    form = {"username": "alice", "password": PASSWORD}

    def status(origin: str) -> int:
        return alice.http.post("/login", data=form, headers={"Origin": origin, "Host": host}).status_code

    assert [status(f"http://{host}"), status(f"http://{host}0")] == [303, 403]


def test_who_comes_by_https_to_a_site_that_knows_nothing_of_it_is_told_so(alice: Person) -> None:
    answer = alice.http.post("/logout", headers={"Origin": "https://knock.lan", "Host": "knock.lan"})

    assert answer.status_code == 403
    assert "SITE_URL" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_another_sites_page_opens_no_socket(alice: Person, headers: dict[str, str]) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in alice.cookies.items())
    address = alice.site.url.replace("http", "ws") + "/ws"

    with pytest.raises(InvalidStatus) as refused:
        connect(address, additional_headers={"Cookie": cookies, **headers})
    assert refused.value.response.status_code == 403
    with connect(address, additional_headers={"Cookie": cookies, "Origin": alice.site.url}):
        pass


def test_https_is_promised_only_where_it_is(https: Site, site: Site) -> None:
    assert "max-age=31536000" in https.client().get("/login").headers["strict-transport-security"]
    assert "strict-transport-security" not in site.client().get("/login").headers


@pytest.mark.parametrize("proto", ["https,http", "http", "", "ftp"])
def test_site_url_decides_that_cookies_are_secure(https: Site, proto: str) -> None:
    alice = Person("alice", https)
    alice.register()
    form = {"username": "alice", "password": PASSWORD}

    cookie = https.client().post("/login", data=form, headers={"X-Forwarded-Proto": proto}).headers["set-cookie"]

    assert cookie.startswith("__Host-session=")
    assert "; Secure" in cookie


@pytest.mark.parametrize("path", ["/users/", "/settings/", "/chat/bob/", "//evil.com", "/static"])
def test_no_redirect_follows_the_host_header(site: Site, path: str) -> None:
    answer = site.client().get(path, headers={"Host": "evil.com"})

    assert "evil.com" not in answer.headers.get("location", "")


def test_a_proxy_that_is_not_trusted_names_nobody_and_is_noticed(
    environ: dict[str, str], clean: None, caplog: pytest.LogCaptureFixture
) -> None:
    with sites.in_this_process(environ) as site:
        alice = Person("alice", site)
        alice.register()
        form = {"username": "alice", "password": PASSWORD}
        headers = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
        for _ in range(3):
            assert "Secure" not in site.client().post("/login", data=form, headers=headers).headers["set-cookie"]

    said = [record.getMessage() for record in caplog.records if "FORWARDED_ALLOW_IPS" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("127.0.0.1 ")


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("203.0.113.1, 192.0.2.7", "192.0.2.7"),
        ("192.0.2.7, 10.0.0.1", "192.0.2.7"),
        ("192.0.2.7, evil, 10.0.0.1", "10.0.0.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("192.0.2.7:5000", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unknown", "127.0.0.1"),
        ("\xe9", "127.0.0.1"),
        ("9" * 5000, "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
def test_only_trusted_proxies_name_the_client(environ: dict[str, str], forwarded: str, client: str) -> None:
    def seen(trusted: str) -> object:
        proxies = Proxies(settings.read({**environ, "FORWARDED_ALLOW_IPS": trusted}))
        headers = Headers(raw=[(b"x-forwarded-for", forwarded.encode("latin-1"))])
        scope: Scope = {"type": "http", "client": ("::ffff:127.0.0.1", 1)}
        proxies.look(scope, headers)
        return scope["client"][0]

    assert seen("127.0.0.1,10.0.0.0/8") == client
    assert seen("") == "127.0.0.1"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("4bf92f3577b34da6a3ce929d0e0e4736", True),
        ("7d5f0b1e-8c1e", True),
        ("short", False),
        ("a" * 64, True),
        ("a" * 65, False),
        ("abcdefgh\t{}", False),
        ("abcdefgh1 ERROR", False),
        ("", False),
    ],
)
def test_a_trusted_proxy_gives_requests_their_ids(site: Site, environ: dict[str, str], given: str, taken: bool) -> None:
    proxies = Proxies(settings.read({**environ, "FORWARDED_ALLOW_IPS": "127.0.0.1"}))
    for address, believed in (("127.0.0.1", taken), ("192.0.2.7", False)):
        scope: Scope = {"type": "http", "client": (address, 1)}
        assert proxies.look(scope, Headers({"X-Request-ID": given})) == (given if believed else None)

    answer = site.client().get("/livez", headers={"X-Request-ID": given})
    assert len(answer.headers["x-request-id"]) == 16
    assert answer.headers["x-request-id"] != given


def test_the_proxys_id_of_a_request_is_its_id_in_the_answer(environ: dict[str, str]) -> None:
    with sites.in_this_process(environ, FORWARDED_ALLOW_IPS="127.0.0.1") as site:
        answer = site.client().get("/livez", headers={"X-Request-ID": "from-the-proxy"})
    assert answer.headers["x-request-id"] == "from-the-proxy"


@pytest.mark.parametrize(
    ("proto", "scheme"), [("https", "https"), ("https,http", "https"), ("http", "http"), ("", "http")]
)
def test_without_site_url_a_trusted_proxy_decides_on_https(environ: dict[str, str], proto: str, scheme: str) -> None:
    proxies = Proxies(settings.read({**environ, "FORWARDED_ALLOW_IPS": "127.0.0.1"}))
    for address, expected in (("127.0.0.1", scheme), ("192.0.2.7", "http")):
        scope: Scope = {"type": "http", "client": (address, 1)}
        proxies.look(scope, Headers({"X-Forwarded-Proto": proto}))
        assert scope["scheme"] == expected


@pytest.mark.parametrize(
    ("peer", "site_url", "headers", "hint"),
    [
        ("172.18.0.1", "", {"X-Forwarded-For": "192.0.2.7"}, "FORWARDED_ALLOW_IPS"),
        ("192.168.1.9", "https://chat.example", {"Host": "chat.example"}, "without X-Forwarded-For"),
        ("172.18.0.1", "", {"Host": "chat.example", "Origin": "https://chat.example"}, "SITE_URL"),
        ("8.8.8.8", "", {"X-Forwarded-For": "192.0.2.7"}, None),  # a stranger made it up
        ("10.0.0.1", "", {"X-Forwarded-For": "192.0.2.7"}, None),  # trusted
        ("127.0.0.1", "https://chat.example", {"Host": "127.0.0.1:8000"}, None),  # a health check
        ("127.0.0.1", "", {"Host": "localhost", "Origin": "http://localhost"}, None),
    ],
)
def test_the_operator_is_told_what_is_wrong_with_a_proxy(
    environ: dict[str, str],
    caplog: pytest.LogCaptureFixture,
    peer: str,
    site_url: str,
    headers: dict[str, str],
    hint: str | None,
) -> None:
    proxies = Proxies(settings.read({**environ, "SITE_URL": site_url, "FORWARDED_ALLOW_IPS": "10.0.0.0/8"}))
    for _ in range(3):
        proxies.look({"type": "http", "client": (peer, 1)}, Headers(headers))

    said = [record.getMessage() for record in caplog.records]
    assert said == [str(hint) for hint in proxies.hints]
    assert len(said) == (hint is not None)
    assert hint is None or (hint in said[0] and peer in said[0])


def test_administrators_see_what_is_wrong_with_a_proxy(environ: dict[str, str], clean: None) -> None:
    with sites.in_this_process(environ) as site:
        alice = site.person("alice")  # the first one
        assert not alice.page("/admin").errors
        site.client().get("/login", headers={"X-Forwarded-For": "192.0.2.7"})
        assert "FORWARDED_ALLOW_IPS" in alice.page("/admin").errors


def test_strangers_cannot_fill_the_log_with_hints(environ: dict[str, str]) -> None:
    proxies = Proxies(settings.read(environ))
    for number in range(50):
        proxies.look({"type": "http", "client": (f"10.0.0.{number}", 1)}, Headers({"X-Forwarded-For": "x"}))
    assert len(proxies.hints) == HINTS
