"""What operators watch: the dashboard and the alerts ask for figures that a site shows."""

import json
import re
from typing import Any

import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.site import TOP, Person, Site, eventually
from web.chat.refusals import Cause

DASHBOARD = TOP / "docs" / "grafana.json"
ALERTS = TOP / "docs" / "alerts.yml"
EVENTS = {"knock_sends_refused_total", "knock_sockets_cut_total"}
"""With labels that are shown only once something happened."""
ELSEWHERE = {"knock_silence_seconds", "knock_telegram_calls_total", "knock_telegram_pause_seconds_total"}
"""Of the worker and the bot: tests/telegram/test_heartbeat.py."""


def shown(site: Site) -> dict[str, float]:
    """Each name that the site shows, with the sum of its values."""
    sums: dict[str, float] = {}
    for family in parse(site.metrics().text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


def asked() -> list[str]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    return [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in rules]


def test_the_dashboard_and_the_alerts_name_figures_that_exist(alice: Person, bob: Person) -> None:
    alice.post("bob", "hello")
    alice.page("/chat/bob")
    names = {name for expression in asked() for name in re.findall(r"knock_\w+", expression)}
    assert len(names) >= 10

    eventually(lambda: names - EVENTS - ELSEWHERE <= shown(alice.site).keys())


def test_the_alerts_name_refusals_that_exist() -> None:
    reasons = {cause.value for cause in Cause}
    (named,) = re.findall(r'reason=~"([^"]+)"', ALERTS.read_text())

    assert set(named.split("|")) <= reasons


def test_every_alert_says_what_is_wrong() -> None:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"].endswith((".", "?")), rule


def test_an_acknowledgement_the_loop_and_the_pool_are_measured(alice: Person, bob: Person) -> None:
    before = shown(alice.site).get("knock_acknowledgement_seconds_count", 0)

    alice.post("bob", "hello")

    after = shown(alice.site)
    assert after["knock_acknowledgement_seconds_count"] == before + 1
    assert after["knock_acknowledgement_seconds_sum"] < 60
    eventually(lambda: shown(alice.site)["knock_loop_lag_seconds_count"] > after["knock_loop_lag_seconds_count"])
    eventually(lambda: shown(alice.site)["knock_database_connections"] > 0)


def test_a_notification_that_no_worker_takes_is_seen(alice: Person, bob: Person, postgres: Any) -> None:
    assert shown(alice.site)["knock_outbox_age_seconds"] == 0
    alice.post("bob", "hello")
    postgres.execute(
        """
        INSERT INTO notifications (user_id, conversation_id, first_seq, due_at)
        SELECT users.id, conversations.id, 1, now() - interval '5 minutes' FROM users, conversations
        WHERE username = 'bob'
        """
    )

    assert 300 <= shown(alice.site)["knock_outbox_age_seconds"] < 900
