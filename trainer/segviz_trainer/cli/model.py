"""`segviz predict` and `segviz evaluate`: what one does with a finished model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segviz_exchange.contract.choices import Layout
from segviz_exchange.contract.site_spec import DataSet
from segviz_exchange.process.errors import Refusal
from segviz_trainer.cli.options import (
    background_ids,
    case_range,
    cases_option,
    check_naming,
    check_writable,
    formats_of,
    layout_of,
    options_of,
    organ_ids,
    structure_names,
    structure_option,
    tolerances_of,
)
from segviz_trainer.cli.scores import print_scores, write_csv, write_json

if TYPE_CHECKING:
    from rich.progress import Progress

    from segviz_trainer.models.trained import Model

# torch and MONAI take seconds to import, so the commands do it themselves and --help answers at once.

_PREDICT_EXAMPLES = """\b
Examples:
  segviz predict runs/phantom/models/tuned ct.nii.gz -o out/
  segviz predict MODEL dicom-series/ more/*.nii.gz -o out/ --probabilities
  segviz predict MODEL ct.nii.gz -o out/ --device cuda
  segviz predict SEED0 ct.nii.gz -o out/ --with SEED1 --with SEED2 \\
    --largest-component liver,spleen
  segviz predict MODEL dicom-series/ -o out/ --format dicom-seg,rtstruct
"""

_EVALUATE_EXAMPLES = """\b
Examples:
  segviz evaluate MODEL abdomen/ --background rest \\
    --organ spleen=1 --organ kidneys=2,3 --organ liver=6
  segviz evaluate MODEL Task03_Liver/ --organ liver=1,2 \\
    --csv cases.csv --json summary.json
  segviz evaluate MODEL kits19/data --cases :210 --organ kidneys=1,2
  segviz evaluate MODEL studies/ \\
    --structure liver=Liver --structure "liver=liver_*"
"""

_device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto takes a GPU if there is one.",
)
_threads = click.option(
    "--threads", type=click.IntRange(1, 256), help="Number of CPU threads.  [default: as in training]"
)
_model = click.argument("model", type=click.Path(path_type=Path))
_others = click.option(
    "--with",
    "others",
    multiple=True,
    metavar="MODEL",
    type=click.Path(path_type=Path),
    help="Another model of the same recipe, such as that of another seed: the mean of all is taken; may be "
    "repeated.",
)
_mirroring = click.option(
    "--mirroring/--no-mirroring",
    default=None,
    help="Also look at mirrored windows, along the axes that training mirrored.  [default: as the manifest]",
)
_largest = click.option(
    "--largest-component",
    "largest",
    metavar="ORGAN[,ORGAN]|none",
    help="Organs of which the largest connected component alone stays.  [default: as in the manifest]",
)


@click.command(epilog=_PREDICT_EXAMPLES)
@_model
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the results; it is made if it is not there.",
)
@click.option(
    "--probabilities", is_flag=True, help="Also write each organ's probability map, as NAME_ORGAN.nii.gz."
)
@click.option(
    "--format",
    "formats",
    default="nifti",
    show_default=True,
    metavar="NAME[,NAME]",
    help="nifti, dicom-seg, rtstruct, or several of them; the last two need a DICOM series.",
)
@_others
@_mirroring
@_largest
@_device
@_threads
def predict(
    model: Path,
    images: tuple[Path, ...],
    output: Path,
    probabilities: bool,
    formats: str,
    others: tuple[Path, ...],
    mirroring: bool | None,
    largest: str | None,
    device: str,
    threads: int | None,
) -> None:
    """Segment the organs of MODEL in each IMAGE.

    MODEL is the folder of an exported model (a MONAI bundle). IMAGE is a NIfTI file or a folder with one
    DICOM series. DIR receives a label map for each image, on the grid of the image, and labels.json, which
    says what each label means. Where organs overlap, the most probable one wins.

    As dicom-seg and rtstruct the same voxels go back to a viewer, as NAME_seg.dcm and NAME_rtstruct.dcm:
    objects of the study that the series belongs to, each with a new UID. An organ that is not found is not
    in them.
    """
    for image in images:
        if not image.exists():
            raise Refusal(f"{image}: no such file or folder. Name a NIfTI file or a folder with DICOM files.")
    chosen = formats_of(formats, images)
    if probabilities and "nifti" not in chosen:
        raise Refusal(f"--format {formats}: probability maps are NIfTI files. Add nifti to it.")
    from segviz_trainer.models.predict import predict_files

    loaded = _open(model, device, threads, Asked(others, mirroring, largest))
    with _progress() as progress:
        task = progress.add_task("", total=None)

        def told(image: Path, done: int, windows: int) -> None:
            progress.update(task, description=image.name, completed=done, total=windows)

        for written in predict_files(loaded, images, output, probabilities, told, chosen):
            found = ", ".join(f"{organ} {ml:.0f} ml" for organ, ml in written.millilitres.items())
            named = ", ".join(map(str, written.files)) or written.image
            progress.console.print(f"{named}: {found}", soft_wrap=True)
            for warning in written.warnings:
                progress.console.print(f"  {written.image}: {warning}", soft_wrap=True, style="yellow")
            progress.console.print(
                f"  claimed by two organs or more: {written.overlap_rate:.2%} of the organs' voxels",
                soft_wrap=True,
            )


@click.command(epilog=_EVALUATE_EXAMPLES)
@_model
@click.argument("folder", metavar="DATA", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--organ",
    "organs",
    multiple=True,
    metavar="NAME=ID[,ID]",
    help="An organ and its label ids in DATA; may be repeated.",
)
@structure_option
@click.option(
    "--background",
    default="",
    metavar="ID[,ID]|rest",
    help="Label ids that belong to no organ; rest means all the others.",
)
@click.option(
    "--layout",
    type=click.Choice([each.value for each in Layout]),
    help="How the folder is laid out.  [default: guessed from its files]",
)
@cases_option
@click.option(
    "--tolerance",
    multiple=True,
    metavar="ORGAN=MM",
    help="Tolerance of NSD.  [default: 5 for liver and pancreas, else 3]",
)
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write one row per case and organ.",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the summary."
)
@_others
@_mirroring
@_largest
@_device
@_threads
def evaluate(
    model: Path,
    folder: Path,
    organs: tuple[str, ...],
    structures: tuple[str, ...],
    background: str,
    layout: str | None,
    cases: str | None,
    tolerance: tuple[str, ...],
    csv_file: Path | None,
    json_file: Path | None,
    others: tuple[Path, ...],
    mirroring: bool | None,
    largest: str | None,
    device: str,
    threads: int | None,
) -> None:
    """Score MODEL on the labelled cases in DATA by Dice, HD95 and NSD, each on its file's grid.

    DATA has the layout of MSD, KiTS19 or BTCV, or a cases.csv with the columns image,label, or one folder of
    DICOM for each case. Name the organs by --organ, in DICOM by --structure.
    """
    ids, named = organ_ids(organs), structure_names(structures)
    if not ids and not named:
        raise Refusal(
            "--organ is missing. Name each organ and its label ids, as in --organ liver=1,2, or structures "
            "by --structure."
        )
    tolerances = tolerances_of(tolerance, {*ids, *named})
    check_writable(csv_file, "--csv")
    check_writable(json_file, "--json")
    chosen = Layout(layout) if layout else layout_of(folder)
    check_naming(chosen, ids, named)
    rest = background_ids(background, ids) if ids else ()
    data_set = DataSet(folder.resolve().name, ".", chosen, ids, rest, case_range(cases), structures=named)
    import tempfile

    from segviz_trainer.models.assess import assess

    loaded = _open(model, device, threads, Asked(others, mirroring, largest))
    with tempfile.TemporaryDirectory(prefix="segviz-evaluate-") as cache, _progress() as progress:
        task = progress.add_task("", total=None)

        def told(message: str, done: int, total: int) -> None:
            progress.update(task, description=message, completed=done, total=total)

        assessed = assess(loaded, folder, data_set, Path(cache), tolerances, told)
    for warning in assessed.warnings:
        click.echo(warning)
    rows = assessed.rows
    print_scores(rows)
    if csv_file:
        write_csv(rows, csv_file)
    if json_file:
        write_json(rows, json_file)


@dataclass(frozen=True)
class Asked:
    """How to predict, as typed."""

    others: tuple[Path, ...]
    mirroring: bool | None
    largest: str | None


def _open(folder: Path, device: str, threads: int | None, asked: Asked) -> "Model":
    import torch

    from segviz_trainer.models.trained import Model, TrainedModel

    if device == "cuda" and not torch.cuda.is_available():
        raise Refusal("--device cuda: torch finds no GPU here. Use --device cpu.")
    place = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    trained = TrainedModel.open(folder)
    options = options_of(trained.exported.spec, trained.organs, asked.mirroring, asked.largest)
    others = [TrainedModel.open(other) for other in asked.others]
    return Model(trained, torch.device(place), threads, options, others)


def _progress() -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from segviz_exchange.process.console import open_console

    console = open_console()
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console, transient=True
    )
