"""The same numbers for spreadsheets and programs: every digit is kept."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from segviz_exchange.process.words import for_spreadsheet
from segviz_exchange.process.writing import write_whole
from segviz_trainer.study.gains import Gain
from segviz_trainer.study.intervals import Interval
from segviz_trainer.study.results import Results
from segviz_trainer.study.tables import Table, Test


def write_files(
    results: Results, tables: Sequence[Table], found: Sequence[Gain], folder: Path
) -> tuple[Path, ...]:
    files = {
        "tables.csv": _csv(TABLE_FIELDS, _table_rows(tables)),
        "tests.csv": _csv(TEST_FIELDS, (row for table in tables for row in map(_test_row, table.tests))),
        "gains.csv": _csv(GAIN_FIELDS, map(_gain_row, found)),
        "cases.csv": _csv(CASE_FIELDS, _case_rows(results)),
        "results.json": msgspec.json.format(msgspec.json.encode(as_json(results, tables, found))).decode()
        + "\n",
    }
    for name, content in files.items():
        write_whole(folder / name, content.encode())
    return tuple(folder / name for name in files)


TABLE_FIELDS = ("table", "metric", "method", "organ", "mean", "sd", "low", "high", "cases", "misses", "marks")
"""`low` and `high`: the 95 % interval of the mean."""
TEST_FIELDS = (
    *("table", "metric", "organ", "method", "reference", "referenceMethod", "cases", "difference"),
    *("t", "p", "pHolm", "pWilcoxon", "direction", "refused"),
)
GAIN_FIELDS = (
    *("table", "site", "organ", "method", "alone", "cases", "gain", "low", "high", "p", "pHolm", "refused"),
)
CASE_FIELDS = ("table", "method", "site", "organ", "case", "metric", "value", "missed")


def as_json(results: Results, tables: Sequence[Table], found: Sequence[Gain]) -> dict[str, object]:
    return {
        "study": results.name,
        "baseline": results.baseline,
        "central": results.central,
        "underTest": results.under_test,
        "unfinished": results.unfinished,
        "tables": [dict(zip(TABLE_FIELDS, row, strict=True)) for row in _table_rows(tables)],
        "tests": [
            dict(zip(TEST_FIELDS, _test_row(test), strict=True)) for table in tables for test in table.tests
        ],
        "gains": [dict(zip(GAIN_FIELDS, _gain_row(gain), strict=True)) for gain in found],
        "curves": results.curves,
        "costs": results.costs,
    }


def _table_rows(tables: Sequence[Table]) -> Iterable[tuple[object, ...]]:
    for table in tables:
        for method, cells in table.rows:
            for organ, cell in zip(table.organs, cells, strict=True):
                if cell is not None:
                    marks = " ".join(map(str, cell.marks))
                    place = (table.name, table.metric.name, method, organ)
                    spread = (cell.mean, cell.sd, *_bounds(cell.interval))
                    yield (*place, *spread, cell.cases, cell.misses, marks)


def _test_row(test: Test) -> tuple[object, ...]:
    place = (test.table, test.metric, test.organ, test.method, test.reference, test.reference_method)
    paired = test.paired
    if paired is None:
        return (*place, *[None] * 7, test.refused)
    numbers = (paired.cases, paired.difference, paired.t, paired.p, test.p_holm, paired.p_wilcoxon)
    return (*place, *numbers, paired.direction, "")


def _gain_row(gain: Gain) -> tuple[object, ...]:
    place = (gain.table, gain.site, gain.organ, gain.method, gain.alone)
    if gain.paired is None:
        return (*place, *[None] * 6, gain.refused)
    numbers = (gain.paired.cases, gain.paired.difference, *_bounds(gain.interval))
    return (*place, *numbers, gain.paired.p, gain.p_holm, "")


def _bounds(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _case_rows(results: Results) -> Iterable[tuple[object, ...]]:
    for case in results.cases:
        for metric, value in case.values.items():
            yield (
                *(case.table, case.method, case.site, case.organ, case.case, metric, value),
                int(case.missed),
            )


def _csv(fields: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows(map(for_spreadsheet, row) for row in rows)
    return text.getvalue()
