"""The paper's layout and marks, from made-up cases."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from segviz_exchange.contract.records import Dice, Surface, VariantOutcome
from segviz_trainer.pages import charts
from segviz_trainer.study import page
from segviz_trainer.study.figures import NO_PICTURES, Pictures
from segviz_trainer.study.files import write_files
from segviz_trainer.study.gains import gains
from segviz_trainer.study.redrawn import Redrawn
from segviz_trainer.study.results import IN_FEDERATION, Cost, Overlap, Point, Results, ScoredCase, Summary
from segviz_trainer.study.standing import standings
from segviz_trainer.study.tables import Table, build_tables, text
from segviz_trainer.viewer.case import Modality
from segviz_trainer.viewer.fragment import case_fragment

LOCAL = (0.80, 0.82, 0.78, 0.84, 0.81, 0.79)
BETTER = (0.86, 0.87, 0.83, 0.91, 0.85, 0.86)
POOLED = (0.90, 0.91, 0.88, 0.93, 0.90, 0.89)


def cases(
    method: str, organ: str, values: tuple[float, ...], table: str = IN_FEDERATION, first: int = 0
) -> list[ScoredCase]:
    return [
        ScoredCase(table, method, "basel", organ, f"case{number}", {"Dice": value}, value == 0.0)
        for number, value in enumerate(values, first)
    ]


def build(*found: ScoredCase, **changes: object) -> Results:
    results = Results("default/paper", baseline="Local", central="CentralMarginal")
    results.methods = ["Local", "CentralMarginal", "FedBN", "FedBN+FT"]
    results.organs = ["liver", "spleen"]
    results.cases = list(found) or [
        *cases("Local", "liver", LOCAL),
        *cases("CentralMarginal", "liver", POOLED),
        *cases("FedBN", "liver", BETTER),
        *cases("FedBN+FT", "liver", BETTER),
        *cases("CentralMarginal", "spleen", (0.5, 0.0)),
        *cases("Local", "liver", LOCAL, "btcv"),
        *cases("CentralMarginal", "liver", POOLED, "btcv"),
        *cases("FedBN", "liver", POOLED[::-1], "btcv"),
        *cases("FedBN+FT", "liver", BETTER, "btcv"),
    ]
    results.costs = [
        Cost(row, algorithm, "PerOrganHead", 2, 2, 4, 60.0, 3, 95.0, 1000, 2000, 500)
        for row, algorithm in (("Local", "Local"), ("CentralMarginal", "CentralMarginal"), ("FedBN", "FedBN"))
    ]
    for name, value in changes.items():
        setattr(results, name, value)
    return results


def cells(table: Table) -> dict[str, list[str]]:
    return {method: [text(cell, table.metric) for cell in row] for method, row in table.rows}


def test_methods_go_down_organs_across_mean_and_sd_in_each_cell() -> None:
    inside, outside = build_tables(build())
    assert (inside.title, outside.title) == (
        "Table 1: Dice, in-federation",
        "Table 2: Dice, external set btcv",
    )
    assert inside.organs == ("liver", "spleen")
    local = f"{np.mean(LOCAL):.3f} ({np.std(LOCAL):.3f})"  # NumPy's SD divides by n
    assert cells(inside) == {
        "Local": [local, "-"],
        "CentralMarginal": ["0.902 (0.016)", "0.250 (0.250)"],
        "FedBN": ["0.863 (0.024)", "-"],
        "FedBN+FT": ["0.863 (0.024)", "-"],
    }
    assert inside.case_counts == ("6", "2")
    assert [row[0].best for _, row in inside.rows] == [False, True, False, False]


def test_a_missed_organ_stays_in_the_mean_and_is_counted() -> None:
    inside, _ = build_tables(build())
    spleen = inside.rows[1][1][1]
    assert spleen is not None
    assert (spleen.mean, spleen.misses, spleen.cases) == (0.25, 1, 2)


def test_marks_name_reference_and_direction() -> None:
    inside, _ = build_tables(build())
    marks = {method: [str(mark) for mark in row[0].marks] for method, row in inside.rows if row[0]}
    assert marks == {
        "Local": ["c↓", "m↓"],
        "CentralMarginal": ["b↑"],
        "FedBN": ["b↑", "c↓", "m↓"],
        "FedBN+FT": ["b↑", "c↓", "m↓"],
    }


def test_a_mark_that_does_not_survive_holm_says_so() -> None:
    noisy = {"a": 0.8, "b": 0.81, "c": 0.79, "d": 0.8}
    shift = {"a": 0.81, "b": 0.826, "c": 0.792, "d": 0.813}  # p = 0.030
    others = ("CentralMarginal", "FedBN")
    found = [
        ScoredCase(IN_FEDERATION, method, "basel", "liver", case, {"Dice": value}, False)
        for method, values in (
            ("Local", noisy),
            ("FedBN+FT", shift),
            *((each, noisy) for each in others),
        )
        for case, value in values.items()
    ]
    inside = build_tables(build(*found))[0]
    test = next(each for each in inside.tests if each.method == "FedBN+FT" and each.reference == "baseline")
    assert test.paired is not None
    assert test.paired.p < 0.05 < (test.p_holm or 0)
    # The family: three methods against Local. Against all references it would have nine.
    assert test.p_holm == pytest.approx(3 * test.paired.p)
    assert str(inside.rows[3][1][0].marks[0]) == "b↑°"  # type: ignore[union-attr]


def test_a_lower_hd95_is_better() -> None:
    found = [
        ScoredCase(IN_FEDERATION, method, "basel", "liver", f"c{i}", {"Dice": 0.9, "HD95": value}, False)
        for method, values in (("Local", (9.0, 8.0, 8.5, 9.5)), ("FedBN", (3.0, 2.9, 3.3, 3.1)))
        for i, value in enumerate(values)
    ]
    dice, distance = build_tables(build(*found))
    assert (dice.metric.name, distance.title) == ("Dice", "Table 1: HD95 in mm, in-federation")
    fed = distance.rows[2][1][0]
    assert fed is not None
    assert fed.best
    assert str(fed.marks[0]) == "b↑"
    assert text(fed, distance.metric) == "3.08 (0.15)"


def test_unequal_cases_give_no_p_value_but_the_reason() -> None:
    found = [*cases("Local", "liver", LOCAL), *cases("FedBN", "liver", BETTER, first=1)]
    table = build_tables(build(*found))[0]
    test = next(each for each in table.tests if each.method == "FedBN" and each.reference == "baseline")
    assert (test.paired, test.p_holm) == (None, None)
    assert "Local (liver) lacks case6; FedBN (liver) lacks case0." in test.refused


def test_a_site_that_keeps_its_rows_is_in_the_mean_and_in_no_test() -> None:
    surface = Surface(hd95=5.0, hd95_sd=2.0, nsd=0.5, nsd_sd=0.1, misses=1)
    hidden = Summary(IN_FEDERATION, "FedBN", "bern", "liver", Dice(0.5, 0.1, 2), surface)
    found = [*cases("Local", "liver", (0.7, 0.8)), *cases("FedBN", "liver", (0.9, 0.7))]
    table = build_tables(build(*found, summaries=[hidden]))[0]
    cell = table.rows[2][1][0]
    assert cell is not None
    everyone = [0.9, 0.7, 0.6, 0.4]  # 0.5 ± 0.1 over two is 0.6 and 0.4
    assert (cell.mean, cell.sd) == pytest.approx((np.mean(everyone), np.std(everyone)))
    assert (cell.cases, cell.misses) == (4, 1)
    refused = {each.refused for each in table.tests if "FedBN" in (each.method, each.reference_method)}
    assert refused == {
        "no paired test of liver: bern keeps its case rows. Ask its owner to set scores: PerCase."
    }


def with_surfaces(case: ScoredCase, hd95: float, nsd: float) -> ScoredCase:
    return replace(case, values={**case.values, "HD95": hd95, "NSD": nsd})


def test_surfaces_of_a_site_that_keeps_its_rows_are_in_the_means_too() -> None:
    surface = Surface(hd95=5.0, hd95_sd=2.0, nsd=0.5, nsd_sd=0.1, misses=0)
    hidden = Summary(IN_FEDERATION, "FedBN", "bern", "liver", Dice(0.5, 0.1, 2), surface)
    one, other = cases("FedBN", "liver", (0.9, 0.7))
    found = [with_surfaces(one, 2.0, 0.9), with_surfaces(other, 4.0, 0.8)]
    tables = {table.metric.name: table for table in build_tables(build(*found, summaries=[hidden]))}
    for metric, everyone in (("HD95", [2.0, 4.0, 3.0, 7.0]), ("NSD", [0.9, 0.8, 0.4, 0.6])):
        cell = tables[metric].rows[2][1][0]
        assert cell is not None
        assert (cell.cases, cell.mean) == (4, pytest.approx(np.mean(everyone)))
        assert cell.sd == pytest.approx(np.std(everyone))


def test_sites_that_all_keep_their_rows_have_every_metric() -> None:
    surface = Surface(hd95=5.0, hd95_sd=2.0, nsd=0.5, nsd_sd=0.1, misses=0)
    results = build(
        cases=[], summaries=[Summary("btcv", "FedBN", "btcv", "liver", Dice(0.5, 0.1, 2), surface)]
    )
    assert [table.metric.name for table in build_tables(results)] == ["Dice", "HD95", "NSD"]


def test_a_metric_that_an_older_record_lacks_has_no_table() -> None:
    surface = Surface(hd95=5.0, hd95_sd=2.0, nsd=None, nsd_sd=None, misses=0)
    hidden = Summary(IN_FEDERATION, "FedBN", "bern", "liver", Dice(0.5, 0.1, 2), surface)
    found = [with_surfaces(each, 2.0, 0.9) for each in cases("FedBN", "liver", (0.9, 0.7))]
    assert [table.metric.name for table in build_tables(build(*found, summaries=[hidden]))] == [
        "Dice",
        "HD95",
    ]


def test_a_metric_that_a_site_does_not_tell_has_no_table() -> None:
    """Over the other sites alone it would stand beside a Dice over all."""
    hidden = Summary(IN_FEDERATION, "FedBN", "bern", "liver", Dice(0.5, 0.1, 2))
    found = [with_surfaces(each, 2.0, 0.9) for each in cases("FedBN", "liver", (0.9, 0.7))]
    (table,) = build_tables(build(*found, summaries=[hidden]))
    assert table.metric.name == "Dice"


def test_the_surfaces_of_a_record_reach_the_tables() -> None:
    surface = Surface(hd95=5.0, hd95_sd=2.0, nsd=0.5, nsd_sd=0.1, misses=1)
    outcome = VariantOutcome({"liver": Dice(0.5, 0.1, 2)}, (), None, {"liver": surface})
    results = Results("default/paper", methods=["FedBN"])
    results.add("btcv", "FedBN", "btcv", outcome)
    assert [table.metric.name for table in build_tables(results)] == ["Dice", "HD95", "NSD"]
    assert results.misses("btcv", "FedBN", "liver") == 1


def test_the_standing_of_the_best_federated_method() -> None:
    results = build(organs=["liver"])
    found = {each.table: each for each in standings(results, build_tables(results))}
    assert found[IN_FEDERATION].method == "FedBN"
    assert found["btcv"].from_central == pytest.approx(0.0)
    assert found["btcv"].from_baseline == pytest.approx(np.mean(POOLED) - np.mean(LOCAL))


def test_files_hold_every_digit(tmp_path: Path) -> None:
    results = build()
    write_files(results, build_tables(results), gains(results), tmp_path)
    rows = list(csv.DictReader((tmp_path / "tables.csv").open(encoding="utf-8")))
    assert float(rows[0]["sd"]) == np.std(LOCAL)
    assert float(rows[0]["low"]) < np.mean(LOCAL) < float(rows[0]["high"])
    per_case = list(csv.DictReader((tmp_path / "cases.csv").open(encoding="utf-8")))
    assert len(per_case) == len(results.cases)
    assert per_case[0] == {
        **{"table": "In-federation", "method": "Local", "site": "basel", "organ": "liver", "case": "case0"},
        **{"metric": "Dice", "value": "0.8", "missed": "0"},
    }
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert document["tables"][0]["mean"] == pytest.approx(np.mean(LOCAL))
    assert len(list(csv.DictReader((tmp_path / "tests.csv").open(encoding="utf-8")))) == len(
        document["tests"]
    )


# --- the page ------------------------------------------------------------------------------------------


class _Links(HTMLParser):
    """Everything that could make a browser ask for something."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"):
                self.targets.append(value or "")
            if name == "id":
                self.ids.add(value or "")
            assert not name.startswith("on"), "no script"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(html: str) -> _Links:
    links = _Links()
    links.feed(html)
    return links


def words(html: str) -> str:
    return " ".join(" ".join(parsed(html).text).split())


def rendered(results: Results, *, pictures: bool = True) -> str:
    shown = (
        Pictures((case_fragment(redrawn(results.cases[0]).viewed(results.organs)),))
        if pictures
        else NO_PICTURES
    )
    return page.render(results, build_tables(results), gains(results), shown, with_images=pictures)


def redrawn(case: ScoredCase) -> Redrawn:
    """A cube that was found a voxel too far."""
    truth, found = np.zeros((2, 8, 8, 8), bool)
    truth[2:5, 2:5, 2:5] = found[3:6, 2:5, 2:5] = True
    image, affine = truth.astype(np.float32), np.diag([2.0, 2.0, 3.0, 1.0])
    return Redrawn("worst", case, 0.5, image, Modality.OTHER, truth, found, affine)


@pytest.mark.parametrize("pictures", [True, False])
def test_the_page_asks_nobody_for_anything(pictures: bool) -> None:
    curves = [Point("Local", "liver", round_, 5 * round_, 0.1 * round_) for round_ in range(4)]
    html = rendered(build(curves=curves, overlaps=[Overlap("btcv", "FedBN", 0.01)]), pictures=pictures)
    links = parsed(html)
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in links.targets)
    assert {t.removeprefix("#") for t in links.targets if t.startswith("#")} <= links.ids | {""}
    assert not {"link", "iframe", "object", "embed", "base"} & set(links.tags)
    assert ("script" in links.tags) == ("; script-src &#39;sha256-" in html) == pictures, "the viewer's alone"
    assert "http" not in html.replace("http-equiv", "")
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html
    assert ("image" in links.tags) == pictures


def test_the_page_says_what_the_tables_say() -> None:
    said = words(rendered(build(unfinished=["FedAdam"])))
    assert "Table 2: Dice, external set btcv" in said
    assert "0.863 (0.024) b↑ c↓ m↓" in said
    assert "because they have no result yet: FedAdam." in said
    assert "CentralMarginal spleen 1 2" in said, "a miss"
    assert "after Holm's correction over the table's tests against the same reference." in said


def test_the_page_counts_the_misses_of_a_site_that_keeps_its_rows() -> None:
    surface = Surface(hd95=5.0, hd95_sd=2.0, nsd=0.5, nsd_sd=0.1, misses=2)
    hidden = Summary(IN_FEDERATION, "FedBN", "bern", "liver", Dice(0.5, 0.1, 3), surface)
    said = words(rendered(build(*cases("Local", "liver", LOCAL), summaries=[hidden])))
    assert "In-federation FedBN liver 2 3" in said
    assert "No method missed" not in said


def test_the_page_does_not_deny_misses_that_it_cannot_see() -> None:
    hidden = Summary(IN_FEDERATION, "FedBN", "bern", "liver", Dice(0.5, 0.1, 3))
    said = words(rendered(build(*cases("Local", "liver", LOCAL), summaries=[hidden])))
    assert "No method missed an organ in any case that was counted." in said
    assert "Not counted at bern: the records have Dice alone." in said


def test_names_cannot_break_the_page() -> None:
    results = build(name="default/<script>alert(1)</script>")
    assert "<script>alert" not in rendered(results)
    svg = charts.box_plot("<b>", {"<i>": [0.1, 0.2]}, "", 1.0)
    assert "<b>" not in svg
    assert "<i>" not in svg


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5, 0.5], [0.0, 1.0], [12.0, 400.0]])
def test_boxes_of_any_values_are_drawn_inside(values: list[float]) -> None:
    svg = charts.box_plot("t", {"m": values}, "mm", None)
    inside = [float(part.split('"')[0]) for part in svg.split(' x="')[1:]]
    assert "nan" not in svg
    assert all(0 <= x <= charts.WIDTH for x in inside)


def test_rows_that_merge_at_different_intervals_are_drawn_by_epoch() -> None:
    """Ten rounds of five epochs end where fifty of one do, or the first would seem five times as fast."""
    seldom = [Point("Local", "liver", round_, 5 * round_, 0.5) for round_ in range(11)]
    often = [Point("FedBN", "liver", round_, round_, 0.6) for round_ in range(51)]
    html = rendered(build(curves=seldom + often))
    lines = re.findall(r'<polyline [^>]*points="([^"]+)"><title>(?:Local|FedBN)</title>', html)
    ends = {line.split()[-1].split(",")[0] for line in lines}
    assert (len(lines), len(ends)) == (2, 1)
    assert "validation Dice by epoch" in html


def test_a_study_without_a_pooled_row_has_no_column_for_it() -> None:
    said = words(rendered(build(central=None, organs=["liver"])))
    assert "− central" not in said
    assert "its distance from Local (baseline)" in said
    assert "− central" in words(rendered(build(organs=["liver"])))
