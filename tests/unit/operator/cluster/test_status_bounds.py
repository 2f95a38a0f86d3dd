"""Whatever records say, the status that follows is one that the API server takes."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator

from builders.federations import build_control, build_spec
from builders.mistakes import build_site
from builders.snapshots import snapshot
from segviz_exchange.contract.progress import Finding, Phase, Preflight, Progress, Severity
from segviz_exchange.contract.records import Dice, RoundScores
from segviz_operator.cluster.membership.attendance import Absence
from segviz_operator.cluster.status.bounds import within_bounds
from segviz_operator.cluster.status.federation_status import Picture, Status, build_federation_status
from segviz_operator.cluster.status.site_status import build_site_status
from segviz_operator.manifests.manifest import parse
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.status import build_status

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
CRDS = Path(__file__).resolve().parents[4] / "crds"


def schema(name: str) -> dict[str, Any]:
    crd = yaml.safe_load((CRDS / f"segviz.dev_{name}.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    return found


FEDERATIONS, SITES = schema("segvizfederations"), schema("segvizsites")


def faults(status: Mapping[str, Any], of: dict[str, Any]) -> list[str]:
    return [f"{list(error.path)}: {error.message[:200]}" for error in Draft4Validator(of).iter_errors(status)]


def told(records: FederationRecords, before: Status | None = None, **changes: Any) -> Status:
    summary = build_status("radiology/abdomen", records)
    picture = replace(Picture(7, build_spec(), NOW, records=records, summary=summary), **changes)
    return build_federation_status(picture, before or {})


def finding(severity: Severity = Severity.INFO, message: str = "well") -> Finding:
    return Finding("Data", severity, message)


def with_findings(records: FederationRecords, **found: tuple[Finding, ...]) -> FederationRecords:
    sites = {
        alias: replace(facts, preflight=Preflight(1, found.get(alias, ())))
        for alias, facts in records.sites.items()
    }
    return replace(records, sites=sites)


# --- any records ------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(
    ["x" * 5000, "\n" * 600, "肝" * 4097]
)
NUMBER = st.none() | st.integers(-(2**62), 2**62)
PROGRESS = st.builds(
    Progress,
    lease=st.integers(0, 9),
    phase=st.sampled_from(Phase),
    message=TEXT,
    round=NUMBER,
    epoch=NUMBER,
    step=NUMBER,
    steps=NUMBER,
    loss=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
FINDINGS = st.lists(
    st.builds(Finding, check=TEXT, severity=st.sampled_from(Severity), message=TEXT), max_size=60
)
DICE = st.builds(Dice, mean=st.floats(-1e300, 1e300), sd=st.floats(0, 1), cases=st.integers(0, 2**62))
ORGANS = st.dictionaries(st.sampled_from(["liver", "spleen"]) | TEXT, DICE, max_size=5)


@settings(max_examples=settings().max_examples * 3 // 5)
@given(
    progress=st.dictionaries(st.sampled_from(["basel", "bern"]), PROGRESS),
    findings=FINDINGS,
    dice=ORGANS,
    excluded=st.none() | TEXT,
    absent=st.dictionaries(st.sampled_from(["bern", "chur"]), TEXT),
    trouble=st.none() | TEXT,
)
def test_any_records_give_a_status_that_the_schema_takes(
    progress: dict[str, Progress],
    findings: list[Finding],
    dice: dict[str, Dice],
    excluded: str | None,
    absent: dict[str, str],
    trouble: str | None,
) -> None:
    control = build_control(excluded={"bern": excluded} if excluded else {})
    scores = (RoundScores("basel", 1, dice),)
    records = snapshot(control, rounds={0: 80, 1: 20}, scores=scores, progress=progress)
    status = told(
        with_findings(records, basel=tuple(findings)),
        absent={alias: Absence("NotConsented", message) for alias, message in absent.items()},
        troubles={"basel": trouble} if trouble else {},
    )
    assert faults(status, FEDERATIONS) == []
    assert status["phase"]
    raw = build_site()
    uses = {
        "metadata": {"namespace": "radiology", "name": "abdomen"},
        "spec": {"sites": [{"alias": "basel", "siteRef": {"namespace": "default", "name": "liver"}}]},
        "status": status,
    }
    assert faults(build_site_status(parse(raw), [uses], {}, NOW), SITES) == []


# --- what is kept -----------------------------------------------------------------------------------------


def basel(*found: Finding) -> dict[str, Any]:
    progress = {"basel": Progress(lease=1, phase=Phase.TRAINING, round=2, step=1, steps=4)}
    records = with_findings(snapshot(build_control(), rounds={0: 80, 1: 20}, progress=progress), basel=found)
    status = told(records)
    assert faults(status, FEDERATIONS) == []
    site: dict[str, Any] = status["sites"][0]
    return site


def test_forty_findings_do_not_stop_a_status() -> None:
    shown = basel(*(finding() for _ in range(39)), finding(Severity.ERROR, "no room"))["preflight"]
    assert len(shown) == 13
    assert shown[0] == {"check": "Data", "severity": "Error", "message": "no room"}
    assert shown[-1]["message"] == "28 more; the site's own log has all"


def test_a_few_findings_stay_in_their_order() -> None:
    found = (finding(message="first"), finding(Severity.ERROR, "second"), finding(message="third"))
    assert [each["message"] for each in basel(*found)["preflight"]] == ["first", "second", "third"]


def test_a_text_too_long_is_cut_where_it_comes_in() -> None:
    assert len(basel(finding(message="x" * 9000))["preflight"][0]["message"]) == 500


FITTED: dict[str, tuple[Status, Status]] = {
    "a text": ({"sitesReady": "x" * 17}, {"sitesReady": "x" * 15 + "…"}),
    "a number below": ({"currentRound": -3}, {"currentRound": 0}),
    "a number above": ({"currentRound": 2**70}, {"currentRound": 2**63 - 1}),
    "no choice": ({"phase": "Dreaming", "bestRound": 1}, {"bestRound": 1}),
    "an entry without its name": (
        {"sites": [{"phase": "Done"}, {"alias": "a"}]},
        {"sites": [{"alias": "a"}]},
    ),
    "a list": (
        {"sites": [{"alias": f"a{n}"} for n in range(300)]},
        {"sites": [{"alias": f"a{n}"} for n in range(256)]},
    ),
    "a map": (
        {"sites": [{"alias": "a", "dice": {f"o{n:03}": "1" for n in range(300)}}]},
        {"sites": [{"alias": "a", "dice": {f"o{n:03}": "1" for n in range(256)}}]},
    ),
    "a key": (
        {"sites": [{"alias": "a", "dice": {"o" * 300: "1", "liver": "1"}}]},
        {"sites": [{"alias": "a", "dice": {"liver": "1"}}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("status", "expected"), FITTED.values(), ids=FITTED)
def test_it_is_cut_to_its_bounds(status: Status, expected: Status) -> None:
    assert within_bounds("SegVizFederation", status) == expected
