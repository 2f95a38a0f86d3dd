"""What each site gains, from made-up cases."""

import csv
from pathlib import Path

import numpy as np
import pytest

from segviz_exchange.contract.records import Dice
from segviz_trainer.study import page
from segviz_trainer.study.files import write_files
from segviz_trainer.study.gains import Gain, gain_cells, gains, shown
from segviz_trainer.study.results import IN_FEDERATION, Cost, Results, ScoredCase, Summary
from segviz_trainer.study.statistics import holm
from segviz_trainer.study.tables import build_tables

ALONE = (0.50, 0.52, 0.48, 0.51, 0.49, 0.53)
TOGETHER = (0.80, 0.83, 0.75, 0.82, 0.78, 0.85)
OWNERS = {"liver": ("basel",), "spleen": ("bern",)}


def scored(
    method: str, organ: str, values: tuple[float, ...], table: str = "btcv", site: str = "btcv"
) -> list[ScoredCase]:
    return [
        ScoredCase(table, method, site, organ, f"case{number}", {"Dice": value}, missed=False)
        for number, value in enumerate(values)
    ]


def build(*cases: list[ScoredCase], rows: tuple[tuple[str, str], ...] = ()) -> Results:
    results = Results("default/demo", organs=["liver", "spleen"], baseline="Local")
    algorithms = rows or (("Local", "Local"), ("FedBN", "FedBN"), ("FedAvg", "FedAvg"))
    results.methods = [row for row, _ in algorithms]
    results.costs = [
        Cost(row, name, "PerOrganHead", 2, 2, 2, 1.0, 0, 1.0, 1, 1, 1) for row, name in algorithms
    ]
    results.cases = [case for each in cases for case in each]
    results.owners = {row: OWNERS for row, _ in algorithms}
    return results


def study() -> Results:
    return build(
        scored("Local", "liver", ALONE),
        scored("Local", "spleen", TOGETHER),
        scored("FedBN", "liver", TOGETHER),
        scored("FedBN", "spleen", TOGETHER[::-1]),
        scored("FedAvg", "liver", ALONE),
        scored("FedAvg", "spleen", ALONE),
    )


def of(results: Results, method: str) -> list[Gain]:
    return [gain for gain in gains(results) if gain.method == method]


def test_a_gain_is_of_one_site_and_organ_over_the_same_cases() -> None:
    liver, spleen = of(study(), "FedBN")
    assert (liver.table, liver.site, liver.organ, liver.alone) == ("btcv", "basel", "liver", "Local")
    assert liver.paired is not None
    assert liver.interval is not None
    assert liver.paired.difference == pytest.approx(np.mean(TOGETHER) - np.mean(ALONE))
    assert liver.interval.low < liver.paired.difference < liver.interval.high
    assert liver.interval.low > 0.25
    assert (spleen.site, spleen.organ) == ("bern", "spleen")
    assert spleen.interval is not None
    assert spleen.interval.low < 0 < spleen.interval.high


def test_holm_goes_over_sites_and_organs_of_one_method() -> None:
    found = of(study(), "FedBN")
    assert [gain.p_holm for gain in found] == list(holm([gain.paired.p for gain in found if gain.paired]))


def test_the_sites_own_test_cases_are_its_own_alone() -> None:
    results = build(
        scored("Local", "liver", ALONE, IN_FEDERATION, "basel"),
        scored("FedBN", "liver", TOGETHER, IN_FEDERATION, "basel"),
        scored("Local", "liver", TOGETHER, IN_FEDERATION, "bern"),
        scored("FedBN", "liver", TOGETHER, IN_FEDERATION, "bern"),
    )
    results.owners = {"Local": {"liver": ("basel", "bern")}}
    basel, bern = of(results, "FedBN")
    assert basel.paired is not None
    assert bern.paired is not None
    assert basel.paired.difference > 0.25
    assert bern.paired.difference == 0.0


def test_models_of_several_sites_averaged_are_no_sites_own() -> None:
    """Under Local an export averages what several owners of an organ trained apart: nobody would use that."""
    results = study()
    results.owners["Local"] = {"liver": ("basel", "chur"), "spleen": ("bern",)}
    basel, chur, bern = sorted(of(results, "FedBN"), key=lambda gain: gain.organ)
    assert (basel.paired, chur.paired) == (None, None)
    assert "Add a row with algorithm Local and basel as its only site." in basel.refused
    assert bern.paired is not None


def test_a_row_of_one_site_says_what_it_has_alone() -> None:
    results = build(
        scored("Local", "liver", TOGETHER),
        scored("basel alone", "liver", ALONE),
        scored("FedBN", "liver", TOGETHER),
        rows=(("Local", "Local"), ("basel alone", "Local"), ("FedBN", "FedBN")),
    )
    results.owners = {"Local": {"liver": ("basel", "chur")}, "basel alone": {"liver": ("basel",)}}
    basel, chur = of(results, "FedBN")
    assert (basel.site, basel.alone) == ("basel", "basel alone")
    assert basel.paired is not None
    assert basel.paired.difference > 0.25
    assert (chur.site, chur.paired) == ("chur", None)


def test_a_tuned_method_is_held_against_tuned_training_alone() -> None:
    results = study()
    results.methods += ["Local+FT", "FedBN+FT"]
    results.cases += [*scored("Local+FT", "liver", TOGETHER), *scored("FedBN+FT", "liver", TOGETHER)]
    (liver,) = of(results, "FedBN+FT")
    assert liver.alone == "Local+FT"
    assert liver.paired is not None
    assert liver.paired.difference == 0.0


def test_rows_that_stay_at_their_site_are_told() -> None:
    results = build(scored("Local", "liver", ALONE))
    results.summaries = [Summary("btcv", "FedBN", "btcv", "liver", Dice(0.5, 0.1, 6))]
    (liver, *_) = of(results, "FedBN")
    assert liver.refused == "Case rows are kept where they are. Ask for scores: PerCase."


def test_the_method_under_test_is_shown_and_no_better_one() -> None:
    results = study()
    tables = build_tables(results)
    assert {gain.method for gain in shown(results, tables, gains(results))} == {"FedBN"}, "the best"
    results.under_test = "FedAvg"
    assert {gain.method for gain in shown(results, tables, gains(results))} == {"FedAvg"}


def test_without_a_row_alone_there_is_no_gain() -> None:
    results = build(scored("FedBN", "liver", TOGETHER), rows=(("FedBN", "FedBN"),))
    assert gains(results) == ()


def rendered(results: Results) -> str:
    return page.render(results, build_tables(results), gains(results), with_images=False)


def test_the_page_tells_gains_and_what_they_can_bear() -> None:
    results = study()
    html = rendered(results)
    assert "What each site gains" in html
    assert "How sure are we" in html
    assert "No row was named before they ran (spec.underTest)" in html
    results.under_test = "FedBN"
    assert "The manifest names FedBN as the one under test" in rendered(results)
    assert "3 rows ran, 2 of them federated (FedBN, FedAvg)." in html
    assert "One seed and one training of each row" in html


def test_the_file_has_every_method_and_every_digit(tmp_path: Path) -> None:
    results = study()
    write_files(results, build_tables(results), gains(results), tmp_path)
    rows = list(csv.DictReader((tmp_path / "gains.csv").open(encoding="utf-8")))
    assert [(row["method"], row["site"]) for row in rows] == [
        ("FedBN", "basel"),
        ("FedBN", "bern"),
        ("FedAvg", "basel"),
        ("FedAvg", "bern"),
    ]
    assert float(rows[0]["gain"]) == pytest.approx(np.mean(TOGETHER) - np.mean(ALONE), rel=1e-12)
    assert float(rows[0]["low"]) < float(rows[0]["gain"]) < float(rows[0]["high"])


def test_a_row_of_the_terminal() -> None:
    liver = of(study(), "FedAvg")[0]
    assert gain_cells(liver) == ("basel", "liver", "btcv", "+0.000", "+0.000 to +0.000", "6")
