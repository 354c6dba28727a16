"""Guessing passwords, from one address, from many, and beside those who know theirs."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import psycopg
import pytest
from limits import parse
from redis.exceptions import RedisError

from tests import site as sites
from tests.site import PASSWORD, Page, Site
from web.accounts import limiter, users
from web.accounts.limiter import Key, Limiter
from web.data import store

FORM = {"username": "alice", "password": PASSWORD}


@pytest.fixture
def limited(environ: dict[str, str], clean: None) -> Iterator[Site]:
    """A site with limits, behind a proxy that names its clients."""
    with sites.in_this_process(environ, LIMITS="on", FORWARDED_ALLOW_IPS="127.0.0.1") as site:
        yield site


def attempt(site: Site, password: str, username: str = "alice", address: str = "192.0.2.1") -> Page:
    form = {"username": username, "password": password}
    return Page(site.client().post("/login", data=form, headers={"X-Forwarded-For": address}))


def guess(site: Site, times: int, address: str = "192.0.2.1", username: str = "alice") -> list[int]:
    return [attempt(site, f"guess number {n}", username, address).status for n in range(times)]


def test_guessing_is_slowed_and_says_for_how_long(limited: Site) -> None:
    limited.person("alice")

    assert guess(limited, 10) == [422] * 10
    refused = attempt(limited, PASSWORD, username="Alice")

    assert refused.status == 429
    assert "Try again in 15 minutes" in refused.errors
    assert refused.one("input[name=username]")["value"] == "Alice"


def test_who_logs_in_forgets_the_failures_before_it(limited: Site) -> None:
    limited.person("alice")
    for _ in range(2):
        assert guess(limited, 9) == [422] * 9
        assert attempt(limited, PASSWORD).status == 303


def test_a_64_of_ipv6_is_one_address(limited: Site) -> None:
    limited.person("alice")
    found = [guess(limited, 1, f"2001:db8:1:2::{n:x}")[0] for n in range(12)]

    assert found == [422] * 10 + [429] * 2
    assert guess(limited, 1, "2001:db8:1:3::1") == [422]


def test_an_address_that_nobody_vouches_for_changes_nothing(environ: dict[str, str], clean: None) -> None:
    with sites.in_this_process(environ, LIMITS="on") as site:
        site.person("alice")
        assert [guess(site, 1, f"192.0.2.{n}")[0] for n in range(11)] == [422] * 10 + [429]


def test_one_address_cannot_try_one_password_on_many_accounts(limited: Site) -> None:
    found = [guess(limited, 1, username=f"somebody{n}")[0] for n in range(31)]

    assert found == [422] * 30 + [429]
    assert guess(limited, 1, "192.0.2.2", "somebody1") == [422]


def test_right_passwords_do_not_count_as_failures_of_the_address(limited: Site) -> None:
    for n in range(4):
        limited.person(f"colleague{n}")
        assert [attempt(limited, PASSWORD, f"colleague{n}").status for _ in range(9)] == [303] * 9


def test_many_addresses_cannot_go_on_guessing_one_password(limited: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "FAILURES_OF_AN_ACCOUNT", parse("5 per day"))
    limited.person("alice")

    assert [guess(limited, 1, f"192.0.2.{n}")[0] for n in range(6)] == [422] * 5 + [429]


def test_a_known_device_is_not_shut_out_by_strangers(limited: Site, postgres: psycopg.Connection) -> None:
    alice, bob = limited.person("alice"), limited.person("bob")
    alice.log_out()
    guess(limited, 11, "127.0.0.1")  # from her own address even

    assert attempt(limited, PASSWORD, address="127.0.0.1").status == 429
    assert bob.http.post("/login", data=FORM).status_code == 429  # his device is not hers
    assert limited.client({"device": "forged"}).post("/login", data=FORM).status_code == 429
    assert alice.http.post("/login", data=FORM).status_code == 303

    postgres.execute("UPDATE users SET password_hash = replace(password_hash, '$m=', '$m =') WHERE username = 'alice'")
    assert alice.http.post("/login", data=FORM).status_code == 429  # the password is another one now


def test_a_known_device_cannot_go_on_guessing(limited: Site) -> None:
    alice = limited.person("alice")
    wrong = {**FORM, "password": "wrong"}

    assert [alice.http.post("/login", data=wrong).status_code for _ in range(11)] == [422] * 10 + [429]


def test_right_passwords_count_too(limited: Site) -> None:
    limited.person("alice")

    assert [attempt(limited, PASSWORD).status for _ in range(31)] == [303] * 30 + [429]


def test_guessing_the_password_of_an_open_session_is_slowed(limited: Site) -> None:
    alice = limited.person("alice")

    def change(current: str) -> int:
        form = {"current": current, "password": "another good password"}
        return alice.http.post("/settings/password", data=form).status_code

    assert [change(f"guess number {n}") for n in range(10)] == [422] * 10
    assert change(PASSWORD) == 429


def test_right_passwords_earn_no_guesses_for_when_redis_is_away(environ: dict[str, str], clean: None) -> None:
    async def guesses_without_redis() -> int:
        async with store.connect(environ["REDIS_URL"]) as redis:
            counted = Limiter(redis.client.connection_pool, is_on=True)
            keys: list[Key] = [(limiter.FAILURES, "login", "alice"), (limiter.FAILURES_OF_AN_ADDRESS, "address")]
            for _ in range(50):
                assert await counted.wait(*keys) == 0
                await counted.succeed(*keys)
            counted._shared = mock.AsyncMock(**{"hit.side_effect": RedisError})
            found = 0
            while await counted.wait(keys[1]) == 0:
                found += 1
            return found

    assert asyncio.run(guesses_without_redis()) == limiter.FAILURES_OF_AN_ADDRESS.amount


def test_without_limits_nothing_is_limited(site: Site) -> None:
    site.person("alice")

    assert guess(site, 12) == [422] * 12
    assert attempt(site, PASSWORD).status == 303


def test_a_crowd_that_logs_in_holds_nobody_up(
    environ: dict[str, str], clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No database connection waits for a hash, and who would wait too long is told so at once."""
    monkeypatch.setattr(users, "QUEUE", 8)
    with sites.in_this_process(environ) as site:
        alice, _ = site.person("alice"), site.person("bob")
        with ThreadPoolExecutor(60) as pool:
            logins = [pool.submit(attempt, site, PASSWORD, "bob") for _ in range(60)]
            others = [alice.http.get("/users").status_code for _ in range(20)]
        answers = [login.result() for login in logins]

    assert set(others) == {200}
    assert {page.status for page in answers} == {303, 503}
    busy = next(page for page in answers if page.status == 503)
    assert "Try again in a few seconds" in busy.errors
    assert busy.one("input[name=username]")["value"] == "bob"
