"""Static files and pages on their way to the browser: compressed, and kept there."""

import base64
import gzip
import hashlib

import pytest

from tests.site import Page, Person, Site


def test_static_files_are_compressed_and_kept_for_ever_under_their_digest(site: Site, alice: Person) -> None:
    link = alice.page("/").one("link[rel=stylesheet]")["href"]
    plain = alice.http.get(str(link), headers={"Accept-Encoding": "identity"})
    for encoding in ("br", "gzip"):
        answer = alice.http.get(str(link), headers={"Accept-Encoding": encoding})
        assert answer.headers["content-encoding"] == encoding
        assert int(answer.headers["content-length"]) < len(plain.content) / 3
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["vary"] == "Accept-Encoding"
    assert "content-encoding" not in plain.headers
    stale = alice.http.get("/static/app.css?v=another", headers={"Accept-Encoding": "identity"})
    assert (stale.headers["cache-control"], stale.content) == ("no-cache", plain.content)
    kept = alice.http.get("/static/app.css", headers={"If-None-Match": stale.headers["etag"]})
    assert (kept.status_code, kept.content) == (304, b"")


def test_the_first_page_of_a_browser_has_the_stylesheet_in_it(site: Site, alice: Person) -> None:
    sheet = alice.http.get("/static/app.css").text
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    for client in (site.client(), alice.http):
        for path in ("/login", "/chat/nobody", "/settings"):
            first = client.get(path, headers={"Sec-Fetch-Dest": "document"}, follow_redirects=True)
            assert Page(first).one("style").string == sheet
            assert f"style-src 'self' 'sha256-{digest}'" in first.headers["content-security-policy"]
        client.cookies.set("scripts", "12")
        later = Page(client.get("/login", headers={"Sec-Fetch-Dest": "document"}, follow_redirects=True))
        assert later.html.select("link[rel=stylesheet]")
        assert not later.html.select("style")


@pytest.mark.parametrize(
    "path",
    ["nothing.css", "../web/app.py", "%2e%2e/web/app.py", "htmx/../../../package.json", "x%2f..%2fapp.css"],
)
def test_nothing_else_is_served(alice: Person, path: str) -> None:
    assert alice.http.get(f"/static/{path}").status_code == 404


@pytest.mark.parametrize("encoding", ["zstd", "br", "gzip"])
def test_pages_are_compressed_but_not_for_other_sites(alice: Person, bob: Person, encoding: str) -> None:
    bob.post("alice", "hello " * 300)
    accepts = {"Accept-Encoding": encoding}
    mine = alice.http.get("/chat/bob", headers={**accepts, "Sec-Fetch-Site": "same-origin"})
    for site in ("cross-site", "same-site"):
        theirs = alice.http.get("/chat/bob", headers={**accepts, "Sec-Fetch-Site": site})
        assert "content-encoding" not in theirs.headers

    assert mine.headers["content-encoding"] == encoding
    assert encoding == "zstd" or "hello" in mine.text  # which the client does not know


def test_gzip_is_what_it_says(alice: Person) -> None:
    with alice.http.stream("GET", "/static/app.js", headers={"Accept-Encoding": "gzip"}) as answer:
        assert b"outbox" in gzip.decompress(b"".join(answer.iter_raw()))
