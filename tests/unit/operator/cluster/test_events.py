"""Events are what is new in a status."""

from typing import Any

import pytest

from segviz_operator.cluster.status.events import events_between


def told(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [each.reason for each in events_between({"sites": [before]}, {"sites": [now]})]


READY = {"alias": "basel", "phase": "Training", "ready": True}
SITES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "heard of": ({"alias": "basel", "ready": False}, READY, ["SiteReady"]),
    "as it was": (READY, READY, []),
    "not ready, and says why": (READY, {**READY, "ready": False, "message": "silent"}, ["SiteNotReady"]),
    "not ready, for it starts again": (READY, {**READY, "ready": False}, []),
    "left out": (READY, {"alias": "basel", "phase": "LeftOut", "message": "no"}, ["SiteLeftOut"]),
    "left out without a reason": (READY, {"alias": "basel", "phase": "LeftOut"}, ["SiteLeftOut"]),
    "back": ({"alias": "basel", "phase": "LeftOut"}, READY, ["SiteRejoined"]),
    "rejected": (READY, {**READY, "rejections": 2}, ["UpdateRejected"]),
}


@pytest.mark.parametrize(("before", "now", "reasons"), SITES.values(), ids=SITES)
def test_what_became_of_a_site(before: dict[str, Any], now: dict[str, Any], reasons: list[str]):
    assert told(before, now) == reasons


def test_a_site_that_is_no_longer_there_has_left():
    (event,) = events_between({"sites": [READY]}, {"sites": []})
    assert (event.reason, event.warning) == ("SiteLeft", False)


def test_each_round_is_told_once():
    first, second = {"currentRound": 0}, {"currentRound": 1, "meanDice": "0.5000"}
    (event,) = events_between(first, second)
    assert event.reason == "RoundCommitted"
    assert "0.5000" in event.message
    assert list(events_between(second, second)) == []


STUCK = {**READY, "ready": False, "reason": "PodStuck", "message": "FailedMount: no volume"}


def test_a_pod_that_is_stuck_is_told_once_and_to_its_site_too():
    (event,) = [each for each in events_between({"sites": [READY]}, {"sites": [STUCK]}) if each.site]
    assert (event.reason, event.site, event.warning) == ("PodStuck", "basel", True)
    assert "no volume" in event.message
    assert told(STUCK, STUCK) == []
    assert told(STUCK, {**STUCK, "reason": "PodMissing"}) == ["PodMissing"]


def test_an_evaluation_that_is_stuck_is_told_too():
    external = {"alias": "geneva", "reason": "PodMissing", "message": "exceeded quota"}
    (event,) = events_between({"evaluation": [{"alias": "geneva"}]}, {"evaluation": [external]})
    assert (event.reason, event.site) == ("PodMissing", "geneva")
