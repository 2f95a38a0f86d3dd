"""`segviz data`: data to try the system on. `segviz init`: a federation's first model."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.opening import open_store
from segviz_trainer.cli.options import (
    background_ids,
    case_range,
    cases_option,
    check_naming,
    check_writable,
    organ_ids,
    structure_names,
    structure_option,
)

if TYPE_CHECKING:
    from rich.console import Console

    from segviz_exchange.contract.choices import Layout
    from segviz_trainer.data.survey import Survey

_PATIENCE_SECONDS = 2.0


_EXAMPLES = """\b
Examples:
  segviz data phantom ./phantom
  segviz data check Task03_Liver/ --organ liver=1,2
"""


@click.group(epilog=_EXAMPLES)
def data() -> None:
    """Check a data set, or make a phantom one to practise on."""


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--cases", default=12, show_default=True, type=click.IntRange(3), help="Cases of each training site."
)
@click.option(
    "--external-cases",
    default=6,
    show_default=True,
    type=click.IntRange(1),
    help="Cases of the external set.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same bytes.")
def phantom(folder: Path, cases: int, external_cases: int, seed: int) -> None:
    """Write a made-up abdominal CT federation to FOLDER.

    Four training sites (liver, spleen, pancreas in MSD's layout, kidneys in KiTS19's), each with its own
    organ alone and its own scanner, and an external set with all four organs in BTCV's layout.

    \b
    Examples:
      segviz data phantom ./phantom
      segviz data phantom ./phantom --cases 20 --seed 7
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise Refusal(f"{folder} exists and is not empty. Name a new folder, or empty it first.")
    # Here, so that --help answers at once.
    from segviz_trainer.phantom.generate import PHANTOM_SETS, generate

    started = time.monotonic()
    with _whole(folder) as staged, ExitStack() as stack:
        bar: click._termui_impl.ProgressBar[int] | None = None

        def report(done: int, total: int, name: str) -> None:
            nonlocal bar
            if bar is None and time.monotonic() - started > _PATIENCE_SECONDS:
                bar = stack.enter_context(click.progressbar(length=total, label="Writing phantoms"))
                bar.update(done - 1)
            if bar is not None:
                bar.update(1)

        generate(staged, seed, cases, external_cases, report=report)
    click.echo(f"Wrote {', '.join(s.name for s in PHANTOM_SETS)} to {folder}.")


_INIT_EXAMPLES = """\b
Examples:
  segviz init --from runs/phantom/models/base --store runs/second/bucket \\
    --keys runs/second/keys/coordinator
  segviz init --from model/ --store s3://minio.example.org/segviz \\
    --prefix default/abdomen-1f2e3d4c/
"""


@data.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--organ", "organs", multiple=True, metavar="NAME=ID[,ID]", help="Report the cases that lack this organ."
)
@structure_option
@click.option(
    "--background",
    default="rest",
    show_default=True,
    metavar="ID[,ID]|rest",
    help="Label ids that are not organs; rest means all other ids.",
)
@cases_option
@click.option(
    "--sheet",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write one HTML page with a picture of each case.",
)
@click.option(
    "--max-mebibytes",
    default=2048,
    show_default=True,
    type=click.IntRange(1),
    help="Cases larger than this are not read.",
)
@click.pass_context
def check(
    context: click.Context,
    folder: Path,
    organs: tuple[str, ...],
    structures: tuple[str, ...],
    background: str,
    cases: str | None,
    sheet: Path | None,
    max_mebibytes: int,
) -> None:
    """Report what the data set in FOLDER contains, before its site joins.

    FOLDER has the layout of MSD, KiTS19 or BTCV, or a cases.csv, or one folder of DICOM for each case. In any
    other folder, all NIfTI files are checked without labels. Exits with 2 if a case cannot be used.

    \b
    Examples:
      segviz data check Task03_Liver/ --organ liver=1,2
      segviz data check kits19/data --cases :210 --sheet kits19.html
      segviz data check studies/ \\
        --structure liver=Liver --structure "liver=liver_*"
    """
    # Here, so that --help answers at once.
    from rich.progress import Progress

    from segviz_exchange.contract.choices import Layout
    from segviz_exchange.contract.site_spec import DataSet
    from segviz_exchange.process.console import open_console
    from segviz_trainer.data.guess import guess_layout
    from segviz_trainer.data.layouts import MAX_ID, find_cases
    from segviz_trainer.data.left_out import left_out, unread
    from segviz_trainer.data.survey import loose, survey, write_sheet
    from segviz_trainer.process.errors import BadDataSet

    ids, named, chosen = organ_ids(organs), structure_names(structures), case_range(cases)
    check_writable(sheet, "--sheet")
    layout = guess_layout(folder)
    if layout is None and chosen is not None:
        raise Refusal(
            f"--cases {cases}: {folder} has no dataset.json, case_* folders, img/ and label/, cases.csv or "
            "folders of DICOM to choose from. Leave it out to look at every file."
        )
    if layout is None:
        listed = loose(folder)
        skipped = unread(set(folder.iterdir()) - {case.image for case in listed}, "not looked at")
    else:
        check_naming(layout, ids, named)
        # Without organs named, any label is one.
        ids = ids or ({} if layout is Layout.DICOM else {"any organ": tuple(range(1, MAX_ID))})
        others = background_ids(background, ids) if ids else ()
        meaning = DataSet(folder.resolve().name, ".", layout, ids, others, chosen, structures=named)
        try:
            listed, skipped = find_cases(folder, meaning, "dataSets[0]"), left_out(folder, meaning)
        except BadDataSet as error:
            raise error.by_hand() from error
    if not listed:
        within = [each for each in sorted(folder.iterdir()) if each.is_dir() and guess_layout(each)]
        hint = f", such as {within[0]}" if within else ""
        raise Refusal(
            f"{folder}: contains no NIfTI file and no folder of DICOM. "
            f"Name the folder that holds the data{hint}."
        )
    console = open_console()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("checking", total=len(listed))
        found = survey(listed, max_mebibytes, lambda done, total, case: progress.update(task, completed=done))
    _print_survey(console, folder, layout, found, skipped)
    if sheet is not None:
        write_sheet(found, folder.resolve().name, sheet)
        console.print(f"pictures: {sheet}", soft_wrap=True)
    context.exit(2 if found.unusable else 0)


def _print_survey(
    console: "Console", folder: Path, layout: "Layout | None", found: "Survey", skipped: Sequence[str]
) -> None:
    console.print(
        f"{folder}: {len(found.cases)} {'case' if len(found.cases) == 1 else 'cases'}, "
        f"layout {layout or 'none'}; {found.unusable} unusable",
        soft_wrap=True,
    )
    for name, counts in (
        ("spacing, mm", found.counts(lambda case: case.spacing)),
        ("orientation", found.counts(lambda case: case.orientation)),
        ("shape", found.counts(lambda case: case.shape)),
    ):
        shown = ", ".join(f"{value} ({count})" for value, count in counts[:5])
        console.print(f"  {name}: {shown or 'none'}{' ...' if len(counts) > 5 else ''}", soft_wrap=True)
    labels, named = ("structures", found.structures) if found.structures else ("label ids", found.ids)
    console.print(
        f"  {labels} (cases): {', '.join(f'{i} ({n})' for i, n in named) or 'none'}", soft_wrap=True
    )
    for told in skipped:
        console.print(f"  {told}", soft_wrap=True)
    for case in found.cases:
        for remark in case.remarks:
            console.print(f"  {case.id}: {remark}", soft_wrap=True)
        if case.error:
            console.print(case.error, soft_wrap=True, style="red")


@click.command(epilog=_INIT_EXAMPLES)
@click.option(
    "--from",
    "model",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="An exported model's folder, or its model.safetensors.",
)
@click.option("--store", "url", required=True, help="Folder or s3://HOST/BUCKET that holds the federation.")
@click.option("--prefix", help="The federation's prefix in the store; not needed if it is the only one.")
@click.option(
    "--keys",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Of the coordinator of a `segviz run`, whose records are signed: WORKDIR/keys/coordinator.",
)
def init(model: Path, url: str, prefix: str | None, keys: Path | None) -> None:
    """Start a federation from a trained model.

    For a federation with spec.model.start: Pretrained, which waits for this command. It takes the model's
    representation and the heads of the organs that both have; other heads start from the seed. It needs the
    coordinator's credentials: no site may write the initial model.
    """
    # Here, so that --help answers at once.
    from segviz_trainer.models.pretrained import find_prefix, start_from

    store = open_store(url, keys=keys)
    started = start_from(store.scoped(prefix or find_prefix(store)), model)
    click.echo(f"Round 0 is {started.record.blob}: {len(started.taken)} tensors of {model}.")
    if started.seeded:
        click.echo(f"From the seed: {len(started.seeded)} tensors, {started.seeded[0]} the first.")


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to fill. What is in it comes to `folder` at the end alone: nobody meets half a data set.

    Raises:
        Refusal: there can be no such folder, or the disk is full.
    """
    folder = folder.resolve()
    staged = folder.with_name(f".{folder.name}.segviz-partial")
    shutil.rmtree(staged, ignore_errors=True)  # of one that was killed
    try:
        yield staged
        if folder.is_dir():  # empty, but maybe somebody's working directory: it must stay the same one
            for each in staged.iterdir():
                each.rename(folder / each.name)
        else:
            staged.rename(folder)
    except OSError as error:
        raise Refusal(
            f"{folder}: cannot be written: {error.strerror}. Name a folder that you may write to, on a disk "
            "with space."
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
