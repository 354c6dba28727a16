"""The checks before every view: which pages may send a form, and what a browser may do with the answer."""

import pytest

from tests.site import PASSWORD, Page, Person, Site


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
