"""Results of a study whose cases rotate: from records, and from scores that were kept."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from builders import reported
from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import AlgorithmName, Objective
from segviz_exchange.contract.kept_scores import KeptCase, KeptScores, to_csv
from segviz_exchange.contract.records import CaseScore, ExternalScores, Variant
from segviz_exchange.contract.run import RunHere
from segviz_exchange.contract.study import KeptFile, StudyIndex
from segviz_exchange.process.errors import Refusal
from segviz_trainer.study import page
from segviz_trainer.study.gains import gains
from segviz_trainer.study.reading import read_results
from segviz_trainer.study.results import DICE, IN_FEDERATION, Results
from segviz_trainer.study.tables import build_tables


def ran(folder: Path, row: str, fold: int, prefix: str | None = None) -> RunHere:
    """A finished run whose external cases are its fold's."""
    name = f"{row}-{fold}"
    scores = {
        variant: reported.variant("liver", 0.1 * fold, 0.5, prefix=prefix or f"x{fold}")
        for variant in ("base", "tuned")
    }
    external = {keys.external_scores("btcv"): (170, ExternalScores("btcv", scores))}
    reported.write(folder / name, **external)
    return RunHere(row, str(folder), f"{name}/", {}, fold)


def kept(folder: Path, row: str, fold: int, code: str = "c0de") -> KeptFile:
    cases = tuple(
        KeptCase(
            Variant.BASE, table, site, CaseScore(f"x{fold}{index}c0ffee", "liver", dice, 3.0, 0.5, False)
        )
        for index, dice in enumerate((0.7, 0.8))
        for table, site in (("btcv", "btcv"), ("", "basel"))
    )
    path = folder / f"{row}-fold-{fold}.csv"
    path.write_bytes(to_csv(KeptScores(row, fold, code, "5eed", 600.0, cases)))
    owners = {"liver": ("basel",)}
    return KeptFile(row, fold, str(path), AlgorithmName.LOCAL, Objective.PER_ORGAN_HEAD, 9, owners)


def study(folder: Path, *runs: RunHere, files: tuple[KeptFile, ...] = (), folds: int | None = 3) -> Results:
    index = StudyIndex("default/paper", runs, ("Local", "FedBN"), "Local", None, 0, None, folds, files)
    return read_results(index, folder)


def test_a_table_holds_the_folds_that_every_row_has(tmp_path: Path) -> None:
    runs = [ran(tmp_path, "Local", 1), ran(tmp_path, "Local", 2), ran(tmp_path, "FedBN", 1)]
    results = study(tmp_path, *runs)
    assert (results.folds, results.planned_folds) == ((1,), 3)
    assert results.values("btcv", "Local", "liver", DICE) == {"x10c0ffee": 0.1, "x11c0ffee": 0.5}
    runs.append(ran(tmp_path, "FedBN", 2))
    results = study(tmp_path, *runs)
    assert results.folds == (1, 2)
    assert len(results.values("btcv", "FedBN", "liver", DICE)) == 4
    assert [(cost.row, cost.fold) for cost in results.costs] == [
        *(("Local", 1), ("Local", 2)),
        *(("FedBN", 1), ("FedBN", 2)),
    ]
    assert len(results.methods) == 4, "each row and its fine-tuned model, once"


def test_a_case_that_a_site_tests_in_two_folds_counts_in_both(tmp_path: Path) -> None:
    results = study(tmp_path, *(ran(tmp_path, row, fold) for row in ("Local", "FedBN") for fold in (1, 2)))
    values = results.values(IN_FEDERATION, "Local", "liver", DICE)
    assert len(values) == 2 * 3
    assert {name.split("/")[0] for name in values} == {"1", "2"}


def test_a_row_without_any_fold_is_told_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    results = study(tmp_path, ran(tmp_path, "Local", 1))
    assert (results.folds, results.unfinished) == ((1,), ["FedBN"])


def test_rows_that_have_no_fold_in_common_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"no fold is finished by every row \(FedBN: 2; Local: 1\)"):
        study(tmp_path, ran(tmp_path, "Local", 1), ran(tmp_path, "FedBN", 2))


def test_an_external_case_in_two_folds_is_refused(tmp_path: Path) -> None:
    runs = [ran(tmp_path, row, fold, "same") for row in ("Local", "FedBN") for fold in (1, 2)]
    with pytest.raises(Refusal, match=r"of btcv is in folds 1 and 2\. Let spec\.rotate\.by be the number"):
        study(tmp_path, *runs)


def test_kept_scores_stand_beside_those_that_ran_here(tmp_path: Path) -> None:
    files = (kept(tmp_path, "Local", 1),)
    results = study(tmp_path, ran(tmp_path, "FedBN", 1), files=files)
    assert results.values("btcv", "Local", "liver", DICE) == {"x10c0ffee": 0.7, "x11c0ffee": 0.8}
    assert results.code == "c0de"
    (gain,) = [each for each in gains(results) if (each.table, each.method) == ("btcv", "FedBN")]
    assert gain.paired is not None
    assert (gain.site, gain.paired.difference) == ("basel", pytest.approx(-0.45))
    html = page.render(results, build_tables(results), gains(results), with_images=False)
    assert "The tables hold 1 of 3 folds (1)" in html
    assert "Kept scores are of the code c0de." in html
    assert "10 min 00 s" in html, "what a kept row has trained"


def test_one_table_holds_one_digest(tmp_path: Path) -> None:
    files = (kept(tmp_path, "Local", 1), kept(tmp_path, "FedBN", 1, "01d"))
    with pytest.raises(Refusal, match=r"2 versions of the code \(01d: FedBN, fold 1; c0de: Local, fold 1\)"):
        study(tmp_path, files=files)


def test_without_folds_it_reads_as_before(tmp_path: Path) -> None:
    runs = [replace(ran(tmp_path, row, 1), fold=None) for row in ("Local", "FedBN")]
    results = study(tmp_path, *runs, folds=None)
    assert (results.folds, results.code) == ((), None)
    assert set(results.values(IN_FEDERATION, "Local", "liver", DICE)) == {"b0c0ffee", "b1c0ffee", "c0c0ffee"}
    assert "folds" not in page.render(results, build_tables(results), gains(results), with_images=False)
