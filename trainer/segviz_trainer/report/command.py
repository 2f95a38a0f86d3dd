"""A run's report and its models, as `python -m segviz_trainer report` and `fetch` write them."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console

from segviz_exchange.contract.run import RunHere
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.malformed import malformation
from segviz_exchange.process.writing import write_whole
from segviz_exchange.stores.store import Store
from segviz_trainer.report import page
from segviz_trainer.report.fetching import fetch_models
from segviz_trainer.study.command import REPORT, REPORT_WITHOUT_IMAGES
from segviz_trainer.study.figures import NO_PICTURES, Pictures, draw
from segviz_trainer.study.reading import add_run
from segviz_trainer.study.redrawn import columns_of, worst_and_median
from segviz_trainer.study.results import Results
from segviz_trainer.study.run import RunRecords, read_run
from segviz_trainer.study.tables import Table, build_tables


@dataclass(frozen=True)
class Images:
    """Where a run's images lie on this machine."""

    run: RunHere
    folder: Path
    """Of the index that says so."""


def write_report(index: Path, console: Console) -> None:
    """Write both pages beside the index: with slices of images, and without, to be sent on.

    Raises:
        Refusal: there is no final model yet.
    """
    here = read_run_index(index)
    images = Images(here, index.parent)
    run = _finished(here.open_store(index.parent), here.name)
    results, tables = results_of(here.name, run)
    pictures = _pictures(results, tables, images, console)
    without = page.render(run, results, tables, with_images=False)
    write_whole(index.parent / REPORT_WITHOUT_IMAGES, without.encode())
    with_images = page.render(run, results, tables, pictures, with_images=True)
    write_whole(index.parent / REPORT, with_images.encode())
    console.print(f"  page   {index.parent / REPORT}", soft_wrap=True, highlight=False, markup=False)


def fetch(store: Store, name: str, output: Path, images: Images | None, console: Console) -> None:
    """Write a run's models and its page to a folder.

    Args:
        name: namespace/name of the federation.
        images: None where there are none here, or the page is to be sent on.

    Raises:
        Refusal: there is nothing to fetch yet, or a model is not what its record says.
    """
    run = _finished(store, name)
    if not run.exports:
        raise Refusal(f"{name}: its model is not exported yet. Try again once it is complete.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal(f"{output}: cannot be written to: {error.strerror}. Name another folder.") from error
    for exported in fetch_models(store, run, output):
        said = f"  {exported.variant:6} {output / exported.variant}, sha256 {exported.blob}, as recorded"
        console.print(said, soft_wrap=True, highlight=False, markup=False)
    results, tables = results_of(name, run)
    pictures = NO_PICTURES if images is None else _pictures(results, tables, images, console)
    rendered = page.render(run, results, tables, pictures, with_images=images is not None)
    write_whole(output / REPORT, rendered.encode())
    console.print(f"  page   {output / REPORT}", soft_wrap=True, highlight=False, markup=False)


def read_run_index(path: Path) -> RunHere:
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunHere)
    except OSError as error:
        raise Refusal(
            f"{path}: cannot be read ({error.strerror}). Run `segviz run` on this folder once more."
        ) from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Refusal(
            f"{path}: not a run of this version of segviz: {malformation(error)}. Run it once more."
        ) from error


def _finished(store: Store, name: str) -> RunRecords:
    run = read_run(store)
    if run is None:
        raise Refusal(f"{name}: has no final model yet. Try again once it is complete.")
    return run


def results_of(name: str, run: RunRecords) -> tuple[Results, tuple[Table, ...]]:
    """A run is a study of one row, called by its algorithm."""
    results = Results(name)
    add_run(results, _row(run), run)
    results.organs.sort()
    return results, build_tables(results)


def _row(run: RunRecords) -> str:
    return str(run.control.spec.algorithm.name)


def _pictures(results: Results, tables: tuple[Table, ...], images: Images, console: Console) -> Pictures:
    row = msgspec.structs.replace(images.run, name=results.costs[0].row)
    columns = columns_of(results, tables, (row,), images.folder, worst_and_median)
    return draw(columns, results.organs, images.folder, console)
