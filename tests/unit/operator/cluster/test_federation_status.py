"""What the cluster's operator writes into a federation's status, and which Events follow from it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from builders.federations import build_control, build_spec
from builders.snapshots import snapshot
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.contract.records import Dice, RoundScores
from segviz_operator.cluster.membership.attendance import Absence
from segviz_operator.cluster.status.conditions import condition_of
from segviz_operator.cluster.status.events import events_between
from segviz_operator.cluster.status.federation_status import (
    Picture,
    build_federation_status,
    shared_groups,
)
from segviz_operator.cluster.status.news import merge_patch
from segviz_operator.progress.status import build_status

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 24, 13, 0, tzinfo=UTC)


def scored(site: str, round_: int, **dice: float) -> RoundScores:
    return RoundScores(site, round_, {organ: Dice(value, 0.0, 3) for organ, value in dice.items()})


def picture(now: datetime = NOW, **changes: Any) -> Picture:
    """Round 1 of 3 is committed, basel trains, bern has not been heard of."""
    records = snapshot(
        build_control(),
        rounds={0: 80, 1: 20},
        scores=(
            scored("basel", 0, liver=0.1),
            scored("bern", 0, spleen=0.3),
            scored("basel", 1, liver=0.7),
            scored("bern", 1, spleen=0.5),
        ),
        progress={"basel": Progress(lease=1, phase=Phase.TRAINING, round=2, epoch=0, step=0, steps=4)},
    )
    summary = build_status("radiology/abdomen", records)
    return replace(Picture(7, build_spec(), now, records=records, summary=summary), **changes)


def status(before: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return build_federation_status(picture(**changes), before or {})


def truths(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in found["conditions"]}


def test_a_running_federation():
    found = status()
    assert (found["phase"], found["currentRound"], found["bestRound"]) == ("Training", 1, 1)
    assert (found["meanDice"], found["sitesReady"], found["observedGeneration"]) == ("0.6000", "1/2", 7)
    assert (found["readySites"], found["totalSites"]) == (1, 2)
    basel, bern = found["sites"]
    assert (basel["phase"], basel["ready"], basel["dice"]) == ("Training", True, {"liver": "0.7000"})
    assert (bern["phase"], bern["ready"]) == ("Starting", False)


CASES: dict[str, tuple[dict[str, Any], dict[str, tuple[str, str]]]] = {
    "it runs": (
        {},
        {
            "Accepted": ("True", "Fits"),
            "Progressing": ("True", "Training"),
            "Degraded": ("False", "AsWanted"),
            "Ready": ("True", "Training"),
        },
    ),
    "it was never accepted": (
        {"refused": ("NotConsented", "bern: …"), "records": None, "summary": None},
        {
            "Accepted": ("False", "NotConsented"),
            "Progressing": ("False", "NotAccepted"),
            "Ready": ("False", "NotConsented"),
        },
    ),
    "an edit of a running one is refused": (
        {"refused": ("SiteChanged", "…")},
        {
            "Accepted": ("False", "SiteChanged"),
            "Progressing": ("True", "Training"),
            "Degraded": ("True", "EditNotUsed"),
        },
    ),
    "a site is absent": (
        {"absent": {"chur": Absence("NotConsented", "chur has not consented")}},
        {"Degraded": ("True", "SiteAbsent")},
    ),
    "a Pod waits": (
        {"troubles": {"bern": "ImagePullBackOff: no such image"}},
        {"Degraded": ("True", "PodWaiting"), "Ready": ("False", "PodWaiting")},
    ),
    "a Pod is missing, and a site absent": (
        {
            "troubles": {"bern": "exceeded quota"},
            "stuck": {"bern": "PodMissing"},
            "absent": {"chur": Absence("NotConsented", "chur has not consented")},
        },
        {"Degraded": ("True", "PodMissing"), "Ready": ("False", "PodMissing")},
    ),
    "the store is away": (
        {"store_trouble": ("StoreUnavailable", "…"), "records": None, "summary": None},
        {"Degraded": ("True", "StoreUnavailable")},
    ),
}


@pytest.mark.parametrize(("changes", "expected"), CASES.values(), ids=CASES)
def test_conditions(changes: dict[str, Any], expected: dict[str, tuple[str, str]]):
    found = truths(status(**changes))
    assert list(found) == ["Ready", "Accepted", "Progressing", "Degraded", "Suspended", "Complete", "Failed"]
    assert {type_: found[type_] for type_ in expected} == expected


ENDS = {
    "Complete": ("True", "Succeeded"),
    "Failed": ("False", "Failed"),
    "Suspended": ("True", "Suspended"),
}


@pytest.mark.parametrize(("phase", "ready"), ENDS.items(), ids=ENDS)
def test_ready_says_how_it_ended(phase: str, ready: tuple[str, str]):
    summary = msgspec.structs.replace(picture().summary, phase=phase)
    assert truths(status(summary=summary))["Ready"] == ready


def test_a_site_whose_pod_is_stuck_says_so_in_a_word():
    found = status(troubles={"basel": "FailedMount: no volume"}, stuck={"basel": "PodStuck"})
    basel = found["sites"][0]
    assert (basel["ready"], basel["reason"], basel["message"]) == (
        False,
        "PodStuck",
        "FailedMount: no volume",
    )


def test_a_retry_is_remembered_and_forgotten_with_its_annotation():
    asked = status(handled_retry="monday")
    assert asked["lastHandledRetry"] == "monday"
    away = status(asked, records=None, summary=None, store_trouble=("StoreUnavailable", "…"))
    assert away["lastHandledRetry"] == "monday"
    assert "lastHandledRetry" not in status(asked)


def test_an_absent_site_is_shown_with_its_reason():
    found = status(absent={"chur": Absence("NotConsented", "chur has not consented")})
    chur = found["sites"][-1]
    assert chur == {"alias": "chur", "phase": "Absent", "ready": False, "message": "chur has not consented"}
    assert (found["sitesReady"], found["readySites"], found["totalSites"]) == ("1/3", 1, 3)


def test_numbers_stay_while_the_store_is_away():
    away = status(status(), records=None, summary=None, store_trouble=("StoreUnavailable", "…"))
    assert (away["sitesReady"], away["readySites"], away["totalSites"]) == ("1/2", 1, 2)


def test_a_transition_keeps_its_time_while_nothing_changes():
    first = status()
    second = status(first, now=LATER)
    third = status(second, now=LATER, troubles={"bern": "Unschedulable: no GPU"})
    times = [condition_of(each, "Degraded")["lastTransitionTime"] for each in (first, second, third)]
    assert times == ["2026-11-24T12:00:00Z", "2026-11-24T12:00:00Z", "2026-11-24T13:00:00Z"]


def test_what_is_known_stays_while_the_store_is_away():
    before = status()
    found = status(before, records=None, summary=None, store_trouble=("StoreUnavailable", "…"))
    assert (found["currentRound"], found["sites"]) == (before["currentRound"], before["sites"])


def test_a_heartbeat_alone_is_no_news_for_a_minute():
    before = status()
    soon, late = status(), status()
    soon["sites"][0] |= {"lastHeartbeatTime": "2026-11-23T12:00:30Z"}
    late["sites"][0] |= {"lastHeartbeatTime": "2026-11-23T12:05:00Z"}
    assert merge_patch(before, soon) is None
    assert merge_patch(before, late) is not None


def test_a_field_that_is_gone_is_taken_away():
    patch = merge_patch({"meanDice": "0.5", "phase": "Training"}, {"phase": "Failed"})
    assert patch == {"meanDice": None, "phase": "Failed"}


def test_who_shares_and_who_owns():
    control = build_control(sites=("basel", "bern"))
    plan = {each["group"]: (each["owners"], each["sharedBy"]) for each in shared_groups(control)}
    assert plan["representation"] == (["basel", "bern"], ["basel", "bern"])
    assert plan["representation norm"] == (["basel", "bern"], [])
    assert plan["liver"] == (["basel"], [])


def told(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [event.reason for event in events_between(before, now)]


def test_the_first_status_tells_of_a_start():
    assert told({}, status()) == ["Accepted", "Progressing", "RoundCommitted", "SiteReady"]


def test_nothing_new_tells_nothing():
    assert told(status(), status(now=LATER)) == []


def test_a_site_left_out_and_back_and_a_rejected_update_are_told():
    before, now = status(), status()
    now["sites"][0] |= {"phase": "LeftOut", "ready": False, "message": "refused"}
    now["sites"][1] |= {"rejections": 2}
    assert told(before, now) == ["SiteLeftOut", "UpdateRejected"]
    assert told(now, before) == ["SiteRejoined"]


def test_trouble_and_its_end_are_told():
    trouble = status(troubles={"bern": "Unschedulable: no GPU"})
    assert told(status(), trouble) == ["DegradedPodWaiting"]
    assert told(trouble, status()) == ["Recovered"]
