"""The end of a federation in which one site writes whatever it likes: the others get their result."""

import json
from pathlib import Path
from typing import Any

import pytest

from builders.federations import build_control, build_spec
from builders.rig import Rig, small_federation
from builders.snapshots import NOON
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import encode, read
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.contract.records import (
    Control,
    Dice,
    Exported,
    ExternalScores,
    Final,
    Outcome,
    Round,
    RoundScores,
    Variant,
    VariantOutcome,
)
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.store import Store
from segviz_operator.cluster.status.bounds import MOST_BYTES
from segviz_operator.cluster.status.federation_status import Picture, Status, build_federation_status
from segviz_operator.plan.decide import Desired, WriteControl, decide
from segviz_operator.plan.phase import FederationPhase
from segviz_operator.progress.observe import Observer
from segviz_operator.progress.report import build_report
from segviz_operator.progress.status import build_status
from segviz_operator.watch.curves import charts_of
from segviz_operator.watch.metrics import FederationMetrics
from segviz_operator.watch.samples import Watched
from segviz_trainer.study.run import read_run

EXTERNAL = ("oslo", "zurich")
TEST = VariantOutcome({"liver": Dice(0.9, 0.1, 3)}, (), None)


def finished(folder: Path, sites: tuple[str, ...] = ("basel", "bern"), **changes: Any) -> FolderStore:
    """Everything is done, but for what the external sites say."""
    store = FolderStore(folder)
    control = build_control(1, sites, evaluation_sites=EXTERNAL, **changes)
    digest = "0" * 64
    records = {
        keys.control(1): control,
        keys.round_record(0): Round(0, 1, digest, 1, sites),
        keys.round_record(1): Round(1, 1, digest, 1, sites),
        keys.FINAL: Final(1, 1, {"liver": 0.9}),
        keys.exported(Variant.BASE): Exported(
            Variant.BASE, 1, digest, 1, ("liver",), ("liver",), control.spec
        ),
    }
    records |= {keys.outcome(alias): Outcome(alias, 1, {Variant.BASE: TEST}) for alias in sites}
    for key, record in records.items():
        store.put(key, encode(record))
    return store


def told(store: Store) -> tuple[str, Status]:
    """All that the operator makes of the records: phase, and the status in the cluster."""
    records = Observer(store).read()
    summary = build_status("radiology/abdomen", records)
    picture = Picture(1, build_spec(evaluation_sites=EXTERNAL), NOON, records=records, summary=summary)
    FederationMetrics().show(Watched("radiology", "abdomen", summary, records, NOON))
    charts_of(records)
    build_report("radiology/abdomen", records, None)
    read_run(store)
    return summary.phase, build_federation_status(picture, {})


MANY = {f"organ-{number}": {"mean": 1, "sd": 0, "cases": 3} for number in range(60_000)}
HUGE = int("9" * 400)
ANYTHING: dict[str, bytes] = {
    "nothing": b"",
    "no object": b"[]",
    "an empty object": b"{}",
    "bytes": bytes(range(256)) * 9,
    "depth": b"[" * 60_000,
    "no variant": encode(ExternalScores("zurich", {})),
    "no base": encode(ExternalScores("zurich", {Variant.TUNED: TEST})),
    "another site's": encode(ExternalScores("oslo", {Variant.BASE: TEST})),
    "60,000 organs": json.dumps(
        {"site": "zurich", "variants": {"base": {"test": MANY, "cases": [], "release": None}}}
    ).encode(),
    "an organ that is markup": json.dumps(
        {
            "site": "zurich",
            "variants": {"base": {"test": {"<b>\x1b": MANY["organ-0"]}, "cases": [], "release": None}},
        }
    ).encode(),
    "a number without end": json.dumps(
        {
            "site": "zurich",
            "variants": {
                "base": {
                    "test": {"liver": {"mean": 1, "sd": 0, "cases": HUGE}},
                    "cases": [],
                    "release": None,
                }
            },
        }
    ).encode(),
    "megabytes": b" " * (5 << 20),
}


@pytest.mark.parametrize("content", ANYTHING.values(), ids=ANYTHING)
def test_external_scores_that_are_none_are_refused_and_the_federation_completes(
    content: bytes, tmp_path: Path
) -> None:
    store = finished(tmp_path)
    store.put(keys.external_scores("oslo"), encode(ExternalScores("oslo", {Variant.BASE: TEST})))
    store.put(keys.external_scores("zurich"), content)
    phase, status = told(store)
    assert phase == FederationPhase.COMPLETE
    oslo, zurich = status["evaluation"]
    assert oslo["dice"] == {"liver": "0.9000"}
    assert zurich["message"].startswith("refused: sites/zurich/external.json: ")
    assert len(json.dumps(status)) < 64 << 10


@pytest.mark.parametrize("content", ANYTHING.values(), ids=ANYTHING)
def test_an_outcome_that_is_none_leaves_its_site_out_where_the_others_are_enough(
    content: bytes, tmp_path: Path
) -> None:
    suffice = {"maxNormRatio": 10.0, "minSites": 1}
    store = finished(tmp_path, participation=suffice)
    store.put(keys.outcome("bern"), content)
    control = read(store, keys.control(1), Control)
    organs = {alias: member.organs for alias, member in control.members.items()}
    actions = decide(Desired(control.spec, organs), Observer(store).read().observed(), NOON)
    written = [action.control for action in actions if isinstance(action, WriteControl)]
    assert written[0].active == ("basel",)
    assert (written[0].members["bern"].excluded or "").startswith("refused: sites/bern/outcome.json: ")
    _, status = told(store)
    assert "not used: sites/bern/outcome.json" in next(
        site["message"] for site in status["sites"] if site["alias"] == "bern"
    )


def test_an_outcome_of_another_round_is_none(tmp_path: Path) -> None:
    store = finished(tmp_path)
    store.put(keys.outcome("bern"), encode(Outcome("bern", 0, {Variant.BASE: TEST})))
    records = Observer(store).read()
    assert records.observed().outcomes == {"basel"}
    assert "is about round 0" in records.sites["bern"].invalid[keys.outcome("bern")]


WRITABLE = [
    keys.progress("bern"),
    keys.scores("bern", 1),
    keys.scores("bern", 0).replace("0000", "0"),
    keys.update("bern", 1, 1),
    keys.update("bern", 1, 1).replace("/1.json", "/01.json"),
    keys.lease("bern", 10**17),
    keys.preflight("bern", 1),
    keys.outcome("bern"),
    "sites/bern/updates/x.json",
    "sites/bern/updates/x/1.json",
    "sites/bern/x",
]
NUMBERS = ("round", "epoch", "step", "steps", "lease")
BEATS = {
    f"{name} {value}": json.dumps({"lease": 1, "phase": "Training", name: value}).encode()
    for name in NUMBERS
    for value in (HUGE, -1, -HUGE)
}


@pytest.mark.parametrize("key", WRITABLE)
def test_whatever_lies_below_a_site_s_name_a_status_is_built(key: str, tmp_path: Path) -> None:
    for number, content in enumerate((*ANYTHING.values(), *BEATS.values())):
        store = finished(tmp_path / str(number))
        store.put(key, content)
        told(store)


def test_what_all_sites_say_together_fits_into_an_object(tmp_path: Path) -> None:
    aliases = tuple(f"site{number:03d}" for number in range(200))
    store = FolderStore(tmp_path)
    organs = tuple(f"organ{number:058d}" for number in range(256))
    control = build_control(1, ("basel",))
    members = dict.fromkeys(aliases, type(control.members["basel"])(organs))
    store.put(keys.control(1), encode(Control(1, control.spec, members, False)))
    for alias in aliases:
        dice = {organ: Dice(0.5, 0.1, 3) for organ in organs}
        store.put(keys.scores(alias, 1), encode(RoundScores(alias, 1, dice)))
        store.put(keys.progress(alias), encode(Progress(1, Phase.WAITING, "x" * 9000)))
    _, status = told(store)
    assert len(json.dumps(status)) < 2 * MOST_BYTES
    assert [site["alias"] for site in status["sites"]] == sorted(aliases)


OVERWRITTEN = {
    "the update of the final round": lambda rig: keys.update("bern", rig.round(1).round, 1),
    "its outcome": lambda rig: keys.outcome("bern"),
}


@pytest.mark.parametrize("content", [b"{}", b"\xff" * 9, b"x" * (5 << 20)], ids=["{}", "bytes", "megabytes"])
@pytest.mark.parametrize("key", OVERWRITTEN.values(), ids=OVERWRITTEN)
def test_the_model_is_exported_whatever_a_site_overwrites(key, content: bytes, exported_rig: Rig) -> None:
    place = exported_rig.folder / "bucket" / key(exported_rig)
    before = place.read_bytes()
    try:
        place.write_bytes(content)
        (exported_rig.folder / "bucket" / keys.exported(Variant.BASE)).unlink(missing_ok=True)
        exported = exported_rig.export()[Variant.BASE]
        assert "liver" in exported.organs
        assert ("spleen" in exported.organs) == ("updates" in key(exported_rig))
    finally:
        place.write_bytes(before)


@pytest.fixture(scope="module")
def exported_rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    rig = Rig(
        tmp_path_factory.mktemp("rig"),
        small_federation(rounds=1, local_epochs=1),
        {"basel": ("liver",), "bern": ("spleen",)},
    )
    rig.control()
    rig.run()
    return rig


def test_a_variant_that_nobody_asked_for_is_not_exported(exported_rig: Rig) -> None:
    store = exported_rig.store
    key = keys.outcome("bern")
    outcome = read(store, key, Outcome)
    store.put(key, encode(Outcome("bern", outcome.round, {**outcome.variants, Variant.TUNED: TEST})))
    (exported_rig.folder / "bucket" / keys.exported(Variant.BASE)).unlink(missing_ok=True)
    try:
        assert set(exported_rig.export()) == {Variant.BASE}
    finally:
        store.put(key, encode(outcome))
