"""The settings of a user: the password, the sessions."""

import pytest

from tests.site import PASSWORD, Page, Person, Site

NEW = "another good password"


def change(person: Person, current: str, new: str) -> Page:
    return Page(
        person.http.post("/settings/password", data={"current": current, "password": new}, follow_redirects=True)
    )


def test_a_new_password_replaces_the_old_and_ends_the_other_sessions(alice: Person, site: Site) -> None:
    other = alice.another_browser()
    with other.socket() as tab:
        page = change(alice, PASSWORD, NEW)

        assert page.status == 200
        assert "Your password is changed" in page.html.get_text()
        assert tab.close_code() == 4401
    assert other.http.get("/").status_code == 303
    assert alice.http.get("/").status_code == 200
    assert Person("alice", site).log_in().status_code == 422
    assert site.client().post("/login", data={"username": "alice", "password": NEW}).status_code == 303


@pytest.mark.parametrize(
    ("current", "new", "said"),
    [
        ("not the password", NEW, "not your current password"),
        (PASSWORD, "short", "at least 8"),
        (PASSWORD, "password1", "guessed first"),
        ("", NEW, "Type your current"),
    ],
)
def test_a_bad_change_is_said_beside_the_field(alice: Person, current: str, new: str, said: str) -> None:
    page = change(alice, current, new)

    assert page.status == 422
    assert said in page.errors
    assert alice.log_in().status_code == 303


def test_sessions_are_listed_and_the_others_can_be_ended(alice: Person, bob: Person) -> None:
    other = alice.another_browser()
    assert len(alice.page("/settings").html.select(".sessions li")) == 2

    alice.http.post("/settings/sessions/end")

    assert other.http.get("/").status_code == 303
    assert bob.http.get("/").status_code == 200
    page = alice.page("/settings")
    assert len(page.html.select(".sessions li")) == 1
    assert page.one("#token").get_text() == "1"  # only a click on Log out sets it to 0


@pytest.mark.parametrize(
    ("agent", "shown"),
    [
        ("", "Unknown browser"),
        ("curl/8.5", "curl/8.5"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ],
)
def test_a_session_is_called_by_its_browser(alice: Person, agent: str, shown: str) -> None:
    alice.http.headers["user-agent"] = agent
    alice.log_in()

    agents = [it.get_text() for it in alice.page("/settings").html.select(".sessions .agent")]
    assert shown in agents
