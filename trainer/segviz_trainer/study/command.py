"""From a study's index to its report: what `python -m segviz_trainer study-report` does."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from segviz_exchange.contract.study import StudyIndex
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.malformed import malformation
from segviz_exchange.process.writing import write_whole
from segviz_trainer.study import page
from segviz_trainer.study.answer import answer
from segviz_trainer.study.figures import draw
from segviz_trainer.study.files import write_files
from segviz_trainer.study.gains import Gain, gain_cells, gains, shown
from segviz_trainer.study.reading import read_results
from segviz_trainer.study.redrawn import columns_of, worst
from segviz_trainer.study.results import DICE, Results
from segviz_trainer.study.standing import standings
from segviz_trainer.study.tables import Table, build_tables, text

REPORT = "report.html"
"""With slices of images: for where the images lie."""
REPORT_WITHOUT_IMAGES = "report-without-images.html"
"""The same, to be sent on."""


def write_report(index_file: Path, console: Console) -> None:
    """Write tables, tests, cases and both pages beside the index, and print the tables.

    Raises:
        Refusal: no row has a result yet.
    """
    index = read_index(index_file)
    folder = index_file.parent
    results = read_results(index, folder)
    if not results.methods:
        raise Refusal(f"{index_file}: no row has a result yet. Run `segviz study` to the end first.")
    tables = build_tables(results)
    found = gains(results)
    written = write_files(results, tables, found, folder)
    columns = columns_of(results, tables, index.rows, folder, worst(index.worst_cases))
    pictures = draw(columns, results.organs, folder, console)
    write_whole(folder / REPORT, page.render(results, tables, found, pictures, with_images=True).encode())
    shareable = page.render(results, tables, found, with_images=False)
    write_whole(folder / REPORT_WITHOUT_IMAGES, shareable.encode())
    _tell(results, tables, found, console)
    others = ", ".join(each.name for each in (folder / REPORT_WITHOUT_IMAGES, *written))
    console.print(f"In {folder}: {others}", soft_wrap=True, highlight=False)
    console.print(f"Report, with pictures: {folder / REPORT}", soft_wrap=True, highlight=False)


def _tell(results: Results, tables: Sequence[Table], found: Sequence[Gain], console: Console) -> None:
    """The answer, then the numbers behind it."""
    if said := answer(results, tables):
        console.print(f"{said}\n", style="bold", highlight=False, markup=False)
    for table in tables:
        if table.metric is DICE:
            console.print(_printed(table))
    _tell_gains(shown(results, tables, found), console)
    if results.central is None:
        return
    for each in standings(results, tuple(tables)):
        console.print(
            f"{each.table}, {each.organ}: {each.method} {each.mean:.3f}"
            + (f", {each.from_central:+.3f} to {results.central}" if each.from_central is not None else "")
            + (
                f", {each.from_baseline:+.3f} to {results.baseline}" if each.from_baseline is not None else ""
            ),
            highlight=False,
            markup=False,
        )


def read_index(path: Path) -> StudyIndex:
    try:
        return msgspec.json.decode(path.read_bytes(), type=StudyIndex)
    except OSError as error:
        raise Refusal(
            f"{path}: cannot be read ({error.strerror}). Name the {path.name} of a `segviz study`."
        ) from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Refusal(
            f"{path}: is not a study of this version of segviz: {malformation(error)}. Run the study again."
        ) from error


def _tell_gains(found: Sequence[Gain], console: Console) -> None:
    """What each site gains, a table for each pair of methods; then what cannot be told, and why."""
    for method, alone in dict.fromkeys((gain.method, gain.alone) for gain in found if gain.paired):
        printed = _titled(f"Dice that each site gains: {method} − {alone}")
        for name in ("site", "organ", "on"):
            printed.add_column(name, overflow="fold")
        for name in ("gain", "95 %", "cases"):
            printed.add_column(name, justify="right", no_wrap=True)
        for gain in found:
            if gain.paired and (gain.method, gain.alone) == (method, alone):
                printed.add_row(*gain_cells(gain))
        console.print(printed)
    for gain in found:
        if not gain.paired:
            console.print(f"{gain.site}, {gain.organ}: {gain.refused}", highlight=False, markup=False)


def _titled(title: str) -> RichTable:
    return RichTable(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )


def _printed(table: Table) -> RichTable:
    printed = _titled(f"{table.title}, mean (SD)")
    printed.add_column("", overflow="fold")  # two names may differ at their ends alone
    for organ in table.organs:
        printed.add_column(organ, justify="right", no_wrap=True)
    for method, cells in table.rows:
        printed.add_row(method, *(text(cell, table.metric) for cell in cells))
    printed.add_row("cases", *table.case_counts, style="dim")
    return printed
