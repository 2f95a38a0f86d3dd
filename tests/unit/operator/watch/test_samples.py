"""What Prometheus reads of federations, from their records."""

import math
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from builders.federations import build_control, build_outcome
from builders.snapshots import NOON, snapshot
from builders.watched import running, scored, watched
from segviz_exchange.contract.keys import federation_of, federation_prefix
from segviz_exchange.contract.records import (
    Dice,
    Failure,
    Final,
    Rejection,
)
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.measured import MeasuredStore, StoreMetrics
from segviz_exchange.stores.store import NotFound, Unavailable
from segviz_operator.plan.workload import Workload, WorkloadRole, WorkloadState
from segviz_operator.progress.facts import SiteFacts
from segviz_operator.watch import measures as m
from segviz_operator.watch.metrics import FederationMetrics, OperatorMetrics
from segviz_operator.watch.samples import Watched, stages_by_round

TOOLS = Path(__file__).parents[4] / "tools"


def values(*federations: Watched) -> dict[tuple[str, ...], float]:
    """By name and label values, as a Prometheus would read the page."""
    metrics = FederationMetrics()
    for each in federations:
        metrics.show(each)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


HERE = ("radiology", "abdomen")


@pytest.mark.parametrize(
    ("series", "value"),
    [
        (("segviz_federation_phase", *HERE, "Training"), 1),
        (("segviz_federation_round", *HERE), 1),
        (("segviz_federation_rounds", *HERE), 3),
        (("segviz_federation_dice_ratio", *HERE), 0.6),
        (("segviz_federation_best_round", *HERE), 1),
        (("segviz_federation_newest_dice_ratio", *HERE), 0.6),
        (("segviz_federation_organ_dice_ratio", *HERE, "liver"), 0.7),
        (("segviz_federation_round_dice_ratio", *HERE, "liver", "0"), 0.1),
        (("segviz_federation_organ_dice_change_ratio", *HERE, "liver"), 0),
        (("segviz_federation_sites", *HERE, "all"), 2),
        (("segviz_federation_quorum_sites", *HERE), 2),
        (("segviz_round_opened_timestamp_seconds", *HERE), NOON.timestamp() - 20),
        (("segviz_round_duration_seconds_count", *HERE), 1),
        (("segviz_round_duration_seconds_bucket", *HERE, "60.0"), 1),
        (("segviz_round_stage_seconds", *HERE, "train"), 40),
        (("segviz_site_stage_seconds", *HERE, "basel", "wait"), 8),
        (("segviz_site_phase", *HERE, "basel", "Training"), 1),
        (("segviz_site_phase", *HERE, "bern", "Starting"), 1),
        (("segviz_site_heartbeat_timestamp_seconds", *HERE, "basel"), NOON.timestamp() - 2),
        (("segviz_site_loss", *HERE, "basel"), 0.25),
        (("segviz_site_update_loss", *HERE, "basel"), 0.5),
        (("segviz_site_samples_per_second", *HERE, "basel"), 8),
        (("segviz_site_dice_ratio", *HERE, "bern", "spleen"), 0.5),
        (("segviz_site_uploaded_bytes_total", *HERE, "basel"), 5),
        (("segviz_site_downloaded_bytes_total", *HERE, "basel"), 2),
        (("segviz_site_participations_total", *HERE, "basel"), 1),
        (("segviz_site_rejections_total", *HERE, "basel", ""), 0),
        (("segviz_credentials_expiration_timestamp_seconds", *HERE, "basel"), NOON.timestamp()),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_what_a_running_federation_shows(series: tuple[str, ...], value: float) -> None:
    assert values(watched(running()))[series] == pytest.approx(value)


def test_a_rounds_stages_add_up_to_its_duration() -> None:
    stages = stages_by_round(running())[1]["basel"]
    assert stages == {"enter": 8.0, "train": 40.0, "upload": 2.0, "wait": 8.0, "merge": 2.0}
    assert sum(stages.values()) == 60.0


def test_rejections_exclusions_and_failures_have_their_reasons() -> None:
    records = running()
    basel = replace(records.sites["basel"], rejections=(Rejection("basel", 2, 1, "NotFinite", "nan"),))
    failed = replace(
        records, sites={**records.sites, "basel": basel}, failures=(Failure(2, 1, "QuorumLost", "gone"),)
    )
    found = values(watched(failed))
    assert found["segviz_site_rejections_total", *HERE, "basel", "NotFinite"] == 1
    assert found["segviz_federation_failure", *HERE, "QuorumLost"] == 1
    assert found["segviz_federation_phase", *HERE, "Failed"] == 1


def test_a_workload_that_keeps_failing_is_counted() -> None:
    ended = Workload(WorkloadRole.TRAINER, "basel", 3, failures=2, state=WorkloadState.FAILED, exit_code=1)
    assert values(watched(running(), (ended,)))["segviz_workload_failures", *HERE, "basel", "trainer"] == 3


def test_a_workload_that_is_stuck_is_shown() -> None:
    missing = Workload(WorkloadRole.TRAINER, "basel", 1, stuck="PodMissing")
    found = values(watched(running(), (missing,)))
    assert found["segviz_workload_stuck", *HERE, "basel", "trainer", "PodMissing"] == 1


STORE = {
    "endpoint": "https://store.example",
    "bucket": "segviz",
    "region": "us-east-1",
    "secretRef": {"name": "store"},
    "credentialSeconds": 900,
    "retention": {},
}


@pytest.mark.parametrize(("source", "expected"), [("AssumeRole", 900), ("ExistingSecrets", None)])
def test_how_long_credentials_last_is_told_where_they_expire(source: str, expected: float | None) -> None:
    found = values(watched(running(store={**STORE, "credentials": source})))
    assert found.get(("segviz_credentials_lifetime_seconds", *HERE)) == expected


def test_the_end_has_test_scores_and_no_open_round() -> None:
    outcome = build_outcome("basel", base_liver=Dice(0.8, 0.1, 4))
    records = running()
    basel = replace(records.sites["basel"], outcome=outcome)
    found = values(watched(replace(records, sites={**records.sites, "basel": basel})))
    assert found["segviz_evaluation_dice_ratio", *HERE, "basel", "test", "base", "liver"] == 0.8


def test_a_site_has_delivered_once_what_is_needed_of_it_is_there() -> None:
    records = running()
    basel = replace(records.sites["basel"], newest_update=2)
    found = values(watched(replace(records, sites={**records.sites, "basel": basel})))
    assert found["segviz_site_delivered", *HERE, "basel"] == 1
    assert found["segviz_site_delivered", *HERE, "bern"] == 0
    assert found["segviz_federation_sites", *HERE, "delivered"] == 1


def test_with_the_final_model_a_site_has_delivered_once_it_has_tested_it() -> None:
    records = replace(running(), final=Final(1, 1, {}))
    basel = replace(records.sites["basel"], outcome=build_outcome("basel"))
    found = values(watched(replace(records, sites={**records.sites, "basel": basel})))
    assert found["segviz_site_delivered", *HERE, "basel"] == 1
    assert found["segviz_site_delivered", *HERE, "bern"] == 0


def test_a_dice_that_falls_is_compared_with_three_rounds_before() -> None:
    scores = tuple(
        scored("basel", number, liver=dice) for number, dice in enumerate([0.1, 0.5, 0.9, 0.8, 0.7, 0.6])
    )
    control = build_control(sites=("basel",), rounds=9)
    records = snapshot(control, rounds={each: 100 - each for each in range(6)}, scores=scores)
    found = values(watched(records))
    assert found["segviz_federation_organ_dice_change_ratio", *HERE, "liver"] == pytest.approx(-0.3)
    shown = {key[-1] for key in found if key[0] == "segviz_federation_round_dice_ratio"}
    assert shown == {"3", "4", "5"}, "cardinality stays as it is, however many rounds there are"


def test_a_site_cannot_make_series_with_organs_of_its_own() -> None:
    records = snapshot(build_control(), rounds={0: 9}, scores=(scored("basel", 0, liver=0.1, gold=0.9),))
    assert not [key for key in values(watched(records)) if "gold" in key]


def test_series_go_with_their_federation() -> None:
    metrics = FederationMetrics()
    other = replace(watched(running()), name="thorax")
    metrics.show(watched(running()))
    metrics.show(other)
    metrics.forget(*HERE)
    assert b"abdomen" not in metrics.text()
    assert b'federation="thorax"' in metrics.text()
    metrics.forget("radiology", "thorax")
    assert (metrics.text(), len(metrics)) == (b"", 0)


def test_label_values_are_escaped() -> None:
    odd = replace(watched(running()), name='a"b\\c\nd')
    assert values(odd)["segviz_federation_round", "radiology", 'a"b\\c\nd'] == 1


def test_every_value_is_a_declared_metric_with_its_labels() -> None:
    declared = {each.name: each for each in m.FEDERATION_MEASURES}
    metrics = FederationMetrics()
    metrics.show(watched(running()))
    for family in text_string_to_metric_families(metrics.text().decode()):
        name = family.name if family.name in declared else f"{family.name}_total"
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(declared[name].labels), sample
            assert not math.isnan(sample.value)


def test_the_table_in_the_documentation_is_the_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    import metrics_table

    assert metrics_table.TARGET.read_text(encoding="utf-8") == metrics_table.build_page(), (
        f"run {sys.executable} tools/metrics_table.py"
    )
    names = [each.name for each in metrics_table.all_measures()]
    assert len(names) == len(set(names))
    assert all(each.help.endswith(".") for each in metrics_table.all_measures())


def test_the_operators_page_counts_errors_and_federations() -> None:
    metrics = OperatorMetrics()
    metrics.federations.show(watched(running()))

    with pytest.raises(Unavailable), metrics.reconciling():
        raise Unavailable("away")
    text = metrics.page().body.decode()
    assert 'segviz_operator_reconcile_errors_total{error="Unavailable"} 1.0' in text
    assert "segviz_operator_reconcile_duration_seconds_count 1.0" in text
    assert "segviz_operator_federations 1.0" in text


def test_a_measured_store_counts_bytes_requests_and_failures(tmp_path: Path) -> None:
    class Flaky(FolderStore):
        def list(self, prefix: str) -> list:
            raise Unavailable("away")

    registry = CollectorRegistry()
    store = MeasuredStore(Flaky(tmp_path), StoreMetrics(registry)).scoped("a/")
    inner = MeasuredStore(Flaky(tmp_path), StoreMetrics(CollectorRegistry()))
    inner.create("b.json", b"12345")
    with inner.open("b.json") as stream:
        assert stream.read() == b"12345"
    with pytest.raises(NotFound), inner.open("c.json"):
        pass
    store.put("b.json", b"123")
    with pytest.raises(NotFound):
        store.get("c.json")
    measured = MeasuredStore(Flaky(tmp_path), StoreMetrics(other := CollectorRegistry()))
    with pytest.raises(Unavailable):
        measured.list("")
    assert b"segviz_store_sent_bytes_total 3.0" in generate_latest(registry)
    assert b'errors_total{error="Unavailable",operation="get"} 0.0' in generate_latest(registry)
    assert b'errors_total{error="Unavailable",operation="list"} 1.0' in generate_latest(other)


@pytest.mark.parametrize("uid", ["0a1b2c3d", "1f0c9b1e-0d3a-4b44-9f3e-6f1c2d3e4f50"])
def test_a_prefix_says_whose_it_is(uid: str) -> None:
    assert federation_of(federation_prefix("radiology", "abdomen-ct", uid)) == ("radiology", "abdomen-ct")


def test_a_silent_site_is_counted() -> None:
    late = replace(running(), now=NOON + timedelta(minutes=6))
    assert values(watched(late))["segviz_federation_sites", *HERE, "silent"] == 1


def test_facts_without_updates_are_zero() -> None:
    empty = SiteFacts(None, {}, None, None, None, ())
    records = replace(running(), sites={"basel": empty})
    assert values(watched(records))["segviz_site_updates_total", *HERE, "basel"] == 0
