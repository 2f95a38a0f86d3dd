"""From image files to label maps beside each other in one folder."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from segviz_exchange.process.errors import Refusal
from segviz_trainer.data.grids import Grid
from segviz_trainer.data.preprocess import prepare_image
from segviz_trainer.dicom.series import series_to_nifti
from segviz_trainer.models.trained import Model, Prediction
from segviz_trainer.process.errors import BadCase

MAX_MEBIBYTES = 4096
_LONGEST_NAME = 255
"""Bytes of a file's name, on nearly every file system."""


@dataclass(frozen=True)
class Written:
    image: Path
    labels: Path
    millilitres: dict[str, float]
    """By organ."""
    overlap_rate: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Planned:
    """An image and the files that its results go to."""

    image: Path
    labels: Path
    probabilities: Mapping[str, Path]
    """By organ; empty where they are not asked for."""


def predict_files(
    model: Model,
    images: Sequence[Path],
    output: Path,
    probabilities: bool,
    report: Callable[[Path, int, int], object],
) -> Iterator[Written]:
    """Predict each image; `report` is told the image, windows done and windows in all.

    Raises:
        Refusal: a result would replace an input or another result, or `output` cannot be written.
        BadCase: an image cannot be used; names it.
    """
    planned = [plan_files(image, output, model.trained.organs if probabilities else ()) for image in images]
    check_files(planned)
    ids = {organ: index for index, organ in enumerate(model.trained.organs, start=1)}
    legend = json.dumps({"background": 0} | ids, indent=2) + "\n"
    write_legend(output, legend)
    for files in planned:
        image = files.image
        with as_nifti(image) as opened:
            prepared = prepare_image(opened.file, model.preprocessing, MAX_MEBIBYTES)
        voxels = torch.from_numpy(prepared.voxels)[None]
        found = model.predict(voxels, prepared, partial(report, image))
        save(files.labels, found.labels, prepared.native)
        for organ, file in files.probabilities.items():
            save(file, found.probabilities[found.organs.index(organ)], prepared.native)
        yield Written(
            image,
            files.labels,
            volumes(found, prepared.native),
            found.overlap_rate,
            opened.warnings + prepared.warnings,
        )


def write_legend(output: Path, legend: str) -> None:
    """Raises Refusal where the folder says otherwise already: label maps there would change their meaning."""
    file = output / "labels.json"
    try:
        output.mkdir(parents=True, exist_ok=True)
        if file.exists():
            if _meaning(file) != json.loads(legend):
                raise Refusal(
                    f"{file}: gives label maps of an earlier prediction other numbers than this model has. "
                    "Name another folder with --output."
                )
            return
        if any(output.glob("*.nii.gz")):
            raise Refusal(
                f"{output}: holds .nii.gz files without a labels.json, which this one would seem to explain. "
                "Name another folder with --output."
            )
        file.write_text(legend, encoding="utf-8")
    except OSError as error:
        raise Refusal(
            f"{output}: cannot be written ({error.strerror}). Name another folder with --output."
        ) from error


def _meaning(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except ValueError:
        return None


def plan_files(image: Path, output: Path, organs: Sequence[str]) -> Planned:
    name = image.resolve().name.removesuffix(".gz").removesuffix(".nii")
    return Planned(
        image, output / f"{name}.nii.gz", {organ: output / f"{name}_{organ}.nii.gz" for organ in organs}
    )


def check_files(planned: Sequence[Planned]) -> None:
    """Raises Refusal where a result would replace an image, a file of a DICOM series or another result.

    Also where its name is longer than file systems take, before a model has run for nothing.
    """
    inputs = {files.image.resolve() for files in planned}
    owners: dict[Path, Path] = {}
    for files in planned:
        for file in (files.labels, *files.probabilities.values()):
            if len(partial_of(file).name.encode()) > _LONGEST_NAME:
                raise Refusal(f"{files.image}: its name is too long to name a result after it. Shorten it.")
            place = file.resolve()
            if place in inputs or (place.parent in inputs and place.exists()):
                raise Refusal(
                    f"{file}: is an input, and a result of {files.image} would replace it. "
                    "Name another folder with --output."
                )
            if place in owners:
                raise Refusal(
                    f"{file}: would hold a result of {owners[place]} and one of {files.image}. "
                    "Predict them into different folders."
                )
            owners[place] = files.image


def volumes(found: Prediction, grid: Grid) -> dict[str, float]:
    counts = np.bincount(found.labels.ravel(), minlength=len(found.organs) + 1)
    millilitres = float(np.prod(grid.spacing)) / 1000
    return {organ: int(counts[1 + index]) * millilitres for index, organ in enumerate(found.organs)}


def save(path: Path, values: NDArray[np.generic], grid: Grid) -> None:
    """A file that is complete or absent."""
    image = nib.Nifti1Image(values, grid.matrix)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    partial = partial_of(path)
    try:
        nib.save(image, partial)
        partial.rename(path)
    except OSError as error:
        raise Refusal(
            f"{path}: cannot be written ({error.strerror}). Make room, or check the folder."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def partial_of(path: Path) -> Path:
    return path.with_name(f".partial-{path.name}")


@dataclass(frozen=True)
class Opened:
    """An image as a NIfTI file, with what is odd about where it came from."""

    file: Path
    warnings: tuple[str, ...] = ()


@contextmanager
def as_nifti(image: Path) -> Iterator[Opened]:
    """The image itself, or what the DICOM series in the folder holds."""
    if not image.is_dir():
        yield Opened(image)
        return
    with tempfile.TemporaryDirectory(prefix="segviz-dicom-") as folder:
        # Not the folder's name: one that ends in .nii means something to a writer of NIfTI.
        file = Path(folder) / "volume.nii"
        warnings = series_to_nifti(image, file, MAX_MEBIBYTES)
        try:
            yield Opened(file, warnings)
        except BadCase as error:
            if error.path != file:
                raise
            raise BadCase(image, error.reason, error.hint) from error
