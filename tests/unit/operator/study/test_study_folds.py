"""Rows that run once a fold, and scores that are kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from builders import reported
from builders.mistakes import build_federation, build_site
from segviz_exchange.contract.kept_scores import read_csv
from segviz_exchange.contract.records import Variant
from segviz_exchange.contract.site_spec import CaseRange
from segviz_exchange.process.errors import Refusal
from segviz_operator.manifests.manifest import Federation, Manifests, Site, Study, parse
from segviz_operator.manifests.problem import InvalidManifest
from segviz_operator.study.folder import StudyFolder
from segviz_operator.study.kept import Shelf, code_digest, manifest_digest
from segviz_operator.study.rows import Row, expand

ROWS = [{"name": "Local", "spec": {"algorithm": {"name": "Local"}}}, {"name": "FedBN"}]


def site(name: str, organ: str, **cases: Any) -> Site:
    raw = build_site(name, organ)
    raw["metadata"]["namespace"] = {"liver": "basel", "spleen": "bern"}[name]
    raw["spec"]["allowedFederations"] = [{"namespace": "default", "name": "abdomen"}]
    if cases:
        raw["spec"]["dataSets"][0]["cases"] = cases
    found = parse(raw)
    assert isinstance(found, Site)
    return found


def rows_of(*sites: Site, rows: list[dict[str, Any]] = ROWS, **spec: Any) -> tuple[Row, ...]:
    study = parse(
        {
            "apiVersion": "segviz.dev/v1alpha1",
            "kind": "SegVizStudy",
            "metadata": {"name": "paper", "namespace": "default"},
            "spec": {"rows": rows, "rotate": {"folds": 3, "by": 10}, **spec},
        }
    )
    federation = parse(build_federation())
    assert isinstance(study, Study)
    assert isinstance(federation, Federation)
    return expand(study, Manifests((federation,), sites))


def folded() -> tuple[Row, ...]:
    return rows_of(site("liver", "liver", start=0, stop=5), site("spleen", "spleen"))


def test_every_row_runs_once_a_fold_fold_by_fold() -> None:
    rows = folded()
    assert [row.title for row in rows] == [
        f"{name}, fold {fold}" for fold in (1, 2, 3) for name in ("Local", "FedBN")
    ]
    assert [row.folder for row in rows[:3]] == ["local/fold-1", "fedbn/fold-1", "local/fold-2"]


def test_ranges_stay_and_the_list_below_them_turns() -> None:
    first, _, second, _, third, _ = folded()
    ranges = [row.accepted.members["basel"].spec.data_sets[0].cases for row in (first, second, third)]
    assert ranges == [CaseRange(0, 5), CaseRange(0, 5, 10), CaseRange(0, 5, 20)]
    assert {row.accepted.members["bern"].spec.data_sets[0].cases for row in folded()} == {None}


def test_the_manifests_of_a_fold_have_its_cases(tmp_path: Path) -> None:
    row = folded()[2]
    written = StudyFolder(tmp_path).prepare(row, row.sites).read_text(encoding="utf-8")
    assert "rotateBy: 10" in written
    assert (tmp_path / "rows/local/fold-2/manifests.yaml").is_file()


def test_there_must_be_a_range_that_turns() -> None:
    with pytest.raises(InvalidManifest) as refusal:
        rows_of(site("liver", "liver"), site("spleen", "spleen"))
    assert "spec.rotate turns ranges of cases, and no data set of the sites has one." in str(refusal.value)


def test_without_folds_nothing_has_another_name() -> None:
    rows = rows_of(site("liver", "liver"), site("spleen", "spleen"), rotate=None)
    assert [(row.title, row.folder, row.fold) for row in rows] == [
        ("Local", "local", None),
        ("FedBN", "fedbn", None),
    ]


# --- kept scores ---------------------------------------------------------------------------------------


def test_a_finished_fold_is_kept_with_both_digests(tmp_path: Path) -> None:
    row = folded()[1]
    shelf = Shelf(tmp_path / "kept")
    assert not shelf.holds(row, "c0de")
    path = shelf.keep(row, reported.write(tmp_path / "bucket"), "c0de")
    assert path == tmp_path / "kept/fedbn-fold-1.csv"
    kept = read_csv(path)
    assert (kept.row, kept.fold, kept.code, kept.manifest) == ("FedBN", 1, "c0de", manifest_digest(row))
    assert kept.training_seconds == 4.0 * (3 + 4 + 1), "of every update, rejected ones too"
    tested = [each for each in kept.cases if (each.site, each.variant) == ("basel", Variant.BASE)]
    assert [(each.table, each.score.organ, each.score.dice) for each in tested] == [
        ("", "liver", 0.8),
        ("", "liver", 0.6),
    ]
    assert {each.table for each in kept.cases if each.site == "btcv"} == {"btcv"}
    assert shelf.holds(row, "c0de")


def test_scores_of_other_code_are_not_mixed_in(tmp_path: Path) -> None:
    row, shelf = folded()[1], Shelf(tmp_path / "kept")
    shelf.keep(row, reported.write(tmp_path / "bucket"), "01d")
    with pytest.raises(
        Refusal, match=r"fedbn-fold-1\.csv: was made by another code \(digest 01d; it is c0de"
    ):
        shelf.holds(row, "c0de")


def test_scores_of_another_manifest_are_not_mixed_in(tmp_path: Path) -> None:
    row, shelf = folded()[1], Shelf(tmp_path / "kept")
    shelf.keep(row, reported.write(tmp_path / "bucket"), "c0de")
    changed = [ROWS[0], {"name": "FedBN", "spec": {"seed": 5}}]
    other = rows_of(site("liver", "liver", start=0, stop=5), site("spleen", "spleen"), rows=changed)[1]
    with pytest.raises(Refusal, match="was made by another manifest"):
        shelf.holds(other, "c0de")


def test_another_row_or_fold_has_another_digest() -> None:
    assert len({manifest_digest(row) for row in folded()}) == 6


def test_a_row_goes_on_with_the_code_that_it_began_with(tmp_path: Path) -> None:
    row, folder = folded()[0], StudyFolder(tmp_path)
    folder.prepare(row, row.sites)
    folder.check_code(row, "01d")
    folder.check_code(row, "c0de")  # nothing has run yet
    begun = folder.workdir(row).root
    begun.mkdir(exist_ok=True)
    said = {"namespace": "default", "name": "abdomen", "uid": "0000aaaa", "store": "bucket"}
    (begun / "federation.json").write_text(
        json.dumps({**said, "manifests": [], "accepted": {}}), encoding="utf-8"
    )
    folder.check_code(row, "c0de")
    with pytest.raises(Refusal, match=r"began with other code \(digest c0de; it is new now\)"):
        folder.check_code(row, "new")


def test_the_study_takes_the_salt_that_lies_beside_kept_scores(tmp_path: Path) -> None:
    """Cases have the same ids in rows that ran elsewhere, so that they can be paired."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "salt").write_text("pepper", encoding="utf-8")
    row, folder = folded()[0], StudyFolder(tmp_path / "study", kept)
    folder.prepare(row, row.sites)
    assert (folder.workdir(row).state("basel") / "salt").read_text(encoding="utf-8") == "pepper"


def test_the_digest_of_the_code_is_that_of_its_files() -> None:
    assert code_digest() == code_digest()
    assert len(code_digest()) == 16
