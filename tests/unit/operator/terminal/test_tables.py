"""The final tables and the files with the same numbers."""

import csv
import io

import msgspec
import pytest
from rich.console import Console

from builders.federations import build_control, build_outcome
from builders.snapshots import snapshot
from segviz_exchange.contract.records import Dice, Exported, ExternalScores, Final, Surface, VariantOutcome
from segviz_operator.progress.report import Report, as_csv, build_report
from segviz_operator.terminal.tables import print_report

FINE_TUNING = {"epochs": 2, "learningRate": 0.001}
DIGEST = "ab" * 32


def build(sites: tuple[str, ...] = ("basel", "bern"), **changes) -> Report:
    """basel: liver 0.90 → 0.95; bern: spleen 0.80 → 0.70; an external set with the liver alone."""
    control = build_control(1, sites, fineTuning=FINE_TUNING, evaluation_sites=("btcv",), **changes)
    btcv = {
        "base": VariantOutcome({"liver": Dice(0.5, 0.25, 4)}, (), None),
        "tuned": VariantOutcome({"liver": Dice(0.625, 0.125, 4)}, (), None),
    }
    exported = Exported("base", 2, DIGEST, 1, ("liver", "spleen"), ("liver", "spleen"), control.spec)
    records = snapshot(
        control,
        final=Final(3, 1, {}),
        outcomes=[
            build_outcome("basel", base_liver=Dice(0.9, 0.04, 12), tuned_liver=Dice(0.95, 0.02, 12)),
            build_outcome("bern", base_spleen=Dice(0.8, 0.1, 5), tuned_spleen=Dice(0.7, 0.3, 5)),
        ],
        externals=[ExternalScores("btcv", btcv)],
        exports={"base": exported},
    )
    report = build_report("abdomen", records, None)
    assert report is not None
    return report


def renamed(report: Report, **aliases: str) -> Report:
    rows = tuple(
        msgspec.structs.replace(cell, site=aliases.get(cell.site, cell.site)) for cell in report.rows
    )
    owners = {
        organ: tuple(aliases.get(site, site) for site in sites) for organ, sites in report.owners.items()
    }
    return msgspec.structs.replace(report, rows=rows, owners=owners)


def printed(report: Report, width: int = 80) -> list[str]:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    print_report(report, console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def cells(lines: list[str], label: str) -> list[list[str]]:
    """The cells of each row that starts with a label."""
    rows = [line.strip() for line in lines if line.strip().split("  ")[0] == label]
    return [[cell.strip() for cell in row.split("  ") if cell.strip()][1:] for row in rows]


def test_rows_are_methods_and_columns_are_organs() -> None:
    lines = printed(build())
    assert cells(lines, "FedBN") == [["0.90 ± 0.04", "0.80 ± 0.10"], ["0.50 ± 0.25", "-"]]
    assert cells(lines, "FedBN+FT") == [["0.95 ± 0.02", "0.70 ± 0.30"], ["0.62 ± 0.12", "-"]]
    assert cells(lines, "cases") == [["12", "5"], ["4", "-"]]


def header(lines: list[str]) -> list[list[str]]:
    """The words between the first table's title and its rule."""
    title = next(number for number, line in enumerate(lines) if line.endswith("cases)"))
    rule = next(number for number, line in enumerate(lines) if "──" in line)
    return [line.split() for line in lines[title + 1 : rule] if line.strip()]


def test_the_site_of_each_column_stands_below_its_organ() -> None:
    assert header(printed(build())) == [["liver", "spleen"], ["basel", "bern"]]


def test_where_every_site_is_called_as_its_organ_the_header_has_one_row() -> None:
    assert header(printed(renamed(build(), basel="liver", bern="spleen"))) == [["liver", "spleen"]]


def test_where_one_site_is_called_otherwise_every_site_is_named() -> None:
    assert header(printed(renamed(build(), basel="liver"))) == [["liver", "spleen"], ["liver", "bern"]]


def test_surfaces_are_shown_below_dice_where_a_site_reports_them() -> None:
    report = build()
    surface = msgspec.structs.asdict(Surface(4.25, 1.5, 0.875, 0.125, 2))
    rows = tuple(
        msgspec.structs.replace(row, **surface) if (row.site, row.method) == ("btcv", "FedBN") else row
        for row in report.rows
    )
    lines = printed(msgspec.structs.replace(report, rows=rows))
    assert cells(lines, "FedBN HD95, mm") == [["4.2 ± 1.5", "-"]]
    assert cells(lines, "FedBN NSD") == [["0.88 ± 0.12", "-"]]
    assert cells(lines, "FedBN misses") == [["2", "-"]]
    assert cells(lines, "FedBN+FT NSD") == []


def test_without_fine_tuning_there_is_no_row_for_it() -> None:
    report = msgspec.structs.replace(build(), methods=("FedBN",))
    assert not cells(printed(report), "FedBN+FT")


def test_an_organ_of_a_site_that_was_left_out_is_dashed_and_the_reason_is_given() -> None:
    report = build(("basel", "bern", "geneva"), excluded={"geneva": "refused: half a file"})
    lines = printed(report)
    assert cells(lines, "FedBN")[0] == ["0.90 ± 0.04", "-", "0.80 ± 0.10"]
    assert "geneva was left out: refused: half a file" in lines


@pytest.mark.parametrize("width", [30, 44, 80])
def test_no_line_of_a_table_is_wider_than_the_terminal_and_no_cell_is_cut(width: int) -> None:
    lines = [line for line in printed(build(("basel", "bern", "geneva")), width) if "sha256" not in line]
    assert max(map(len, lines)) <= width
    assert sum(line.count("±") for line in lines if "(" not in line) >= 6


def test_the_digest_is_given_whole() -> None:
    assert any(DIGEST in line for line in printed(build(), 40))


def test_csv_and_json_hold_the_same_numbers_to_the_last_digit() -> None:
    report = build()
    rows = list(csv.DictReader(io.StringIO(as_csv(report))))
    decoded = msgspec.json.decode(msgspec.json.encode(report))
    assert [
        {key: "" if value is None else str(value) for key, value in row.items()} for row in decoded["rows"]
    ] == rows
    assert len(rows) == 6


def test_no_cell_of_the_csv_is_a_formula() -> None:
    report = renamed(build(), basel="=HYPERLINK(1)", bern="@bern")
    rows = list(csv.DictReader(io.StringIO(as_csv(report))))
    assert {row["site"] for row in rows} == {"'=HYPERLINK(1)", "'@bern", "btcv"}


def test_there_is_no_report_before_there_is_a_final_model() -> None:
    assert build_report("abdomen", snapshot(build_control()), None) is None
