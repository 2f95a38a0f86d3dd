"""The final tables, laid out as the paper's: a row for each method, a column for each organ."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from segviz_exchange.contract.records import Spent
from segviz_operator.progress.report import EXTERNAL, TEST, Cell, Report

_CELL_WIDTH = len("0.93 ± 0.02") + 2
_CASES = "cases"


@dataclass(frozen=True)
class Column:
    organ: str
    site: str
    table: str


def print_report(report: Report, console: Console) -> None:
    """Tables, then where the models are."""
    for table in _test_tables(report, console.width):
        console.print(table)
    for site in report.external:
        for table in _external_tables(report, site, console.width):
            console.print(table)
    for line in _lines(report):
        # Reasons, paths and digests are for copying: they are never cut.
        console.print(line, soft_wrap=True)


def _test_tables(report: Report, width: int) -> Iterator[Table]:
    columns = [Column(organ, site, TEST) for organ, sites in report.owners.items() for site in sites]
    title = "Dice of each site's held-back test part (mean ± sd over its cases)"
    for chunk in _chunks(columns, report, width):
        yield _table(report, chunk, title)


def _external_tables(report: Report, site: str, width: int) -> Iterator[Table]:
    columns = [Column(organ, site, EXTERNAL) for organ in report.owners]
    for chunk in _chunks(columns, report, width):
        yield _table(report, chunk, f"Dice of the external set {site}")


def _chunks(columns: Sequence[Column], report: Report, width: int) -> Iterator[Sequence[Column]]:
    """As many columns as fit beside each other."""
    label = max(len(text) for text in (*_labels(report, columns), _CASES)) + 2
    fitting = max(1, (width - label) // max([_CELL_WIDTH, *(len(each.organ) + 2 for each in columns)]))
    for start in range(0, len(columns), fitting):
        yield columns[start : start + fitting]


def _table(report: Report, columns: Sequence[Column], title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    # A site that is called as its organ would repeat the header, as in the phantom's federation.
    sites_told = any(column.table == TEST and column.site != column.organ for column in columns)
    for column in columns:
        header = Text(column.organ)
        if sites_told:
            header.append(f"\n{column.site}", style="dim")
        table.add_column(header, justify="right", no_wrap=True)
    for method in report.methods:
        table.add_row(method, *(_dice(_cell(report, column, method)) for column in columns))
    for method in _with_surfaces(report, columns):
        rows = [_cell(report, column, method) for column in columns]
        for name, cell in _SURFACE_ROWS.items():
            table.add_row(f"{method} {name}", *map(cell, rows))
    first = report.methods[0]
    table.add_row(_CASES, *(_count(_cell(report, column, first)) for column in columns), style="dim")
    return table


def _labels(report: Report, columns: Sequence[Column]) -> Iterator[str]:
    yield from report.methods
    for method in _with_surfaces(report, columns):
        yield from (f"{method} {name}" for name in _SURFACE_ROWS)


def _with_surfaces(report: Report, columns: Sequence[Column]) -> list[str]:
    """Methods of which more than Dice is known."""

    def has_surfaces(method: str) -> bool:
        cells = (_cell(report, column, method) for column in columns)
        return any(cell is not None and cell.hd95 is not None for cell in cells)

    return [method for method in report.methods if has_surfaces(method)]


def _cell(report: Report, column: Column, method: str) -> Cell | None:
    return report.cell(column.table, column.site, method, column.organ)


def _dice(row: Cell | None) -> str:
    return "-" if row is None else f"{row.mean:.2f} ± {row.sd:.2f}"


def _hd95(row: Cell | None) -> str:
    return "-" if row is None or row.hd95 is None else f"{row.hd95:.1f} ± {row.hd95_sd:.1f}"


def _nsd(row: Cell | None) -> str:
    return "-" if row is None or row.nsd is None else f"{row.nsd:.2f} ± {row.nsd_sd:.2f}"


def _misses(row: Cell | None) -> str:
    return "-" if row is None or row.misses is None else str(row.misses)


_SURFACE_ROWS = {"HD95, mm": _hd95, "NSD": _nsd, "misses": _misses}


def _count(row: Cell | None) -> str:
    return "-" if row is None else str(row.cases)


def _budget(spent: Spent) -> str:
    releases = f"{spent.releases} protected updates"
    if spent.epsilon is None:
        return f"{releases}, no bound on what they reveal: some were sent without noise"
    return f"{releases}, epsilon {spent.epsilon:.4g} at delta {spent.delta:g}"


def _lines(report: Report) -> Iterator[Text]:
    for alias, reason in report.left_out.items():
        yield Text(f"{alias} was left out: {reason}", style="yellow")
    for alias, spent in report.privacy.items():
        yield Text(f"{alias}: {_budget(spent)}")
    yield Text(f"Final model: round {report.round} of {report.rounds}", style="bold")
    for model in report.models:
        yield Text(f"  {model.variant:6} {model.folder or 'in the store'}")
        yield Text(f"         sha256 {model.sha256}")
