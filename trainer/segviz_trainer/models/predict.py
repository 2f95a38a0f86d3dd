"""From image files to label maps beside each other in one folder."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from segviz_trainer.data.grids import Grid
from segviz_trainer.data.preprocess import prepare_image
from segviz_trainer.dicom.series import series_to_nifti
from segviz_trainer.models.result_files import (
    Format,
    check_files,
    make_folder,
    plan_files,
    save,
    write_legend,
)
from segviz_trainer.models.trained import Model, Prediction
from segviz_trainer.process.errors import BadCase

MAX_MEBIBYTES = 4096


@dataclass(frozen=True)
class Written:
    image: Path
    files: tuple[Path, ...]
    """Of the formats, in their order; none of DICOM where no organ was found."""
    millilitres: dict[str, float]
    """By organ."""
    overlap_rate: float
    warnings: tuple[str, ...]


def predict_files(
    model: Model,
    images: Sequence[Path],
    output: Path,
    probabilities: bool,
    report: Callable[[Path, int, int], object],
    formats: Sequence[Format] = (Format.NIFTI,),
) -> Iterator[Written]:
    """Predict each image; `report` is told the image, windows done and windows in all.

    Raises:
        Refusal: a result would replace an input or another result, or `output` cannot be written.
        BadCase: an image cannot be used; names it.
    """
    mapped = model.trained.organs if probabilities else ()
    planned = [plan_files(image, output, mapped, formats) for image in images]
    check_files(planned)
    organs = {organ: index for index, organ in enumerate(model.trained.organs, start=1)}
    make_folder(output)
    if Format.NIFTI in formats:
        write_legend(output, organs)
    for files in planned:
        image = files.image
        if files.in_dicom:
            # It takes a second to import, which NIfTI need not wait for.
            from segviz_trainer.models.dicom_results import open_source, write_dicom

            source = open_source(files, MAX_MEBIBYTES)
        with as_nifti(image) as opened:
            prepared = prepare_image(opened.file, model.preprocessing, MAX_MEBIBYTES)
        voxels = torch.from_numpy(prepared.voxels)[None]
        found = model.predict(voxels, prepared, partial(report, image))
        written, warnings = [], [*opened.warnings, *prepared.warnings]
        if Format.NIFTI in files.results:
            save(files.results[Format.NIFTI], found.labels, prepared.native)
            written.append(files.results[Format.NIFTI])
        for organ, file in files.probabilities.items():
            save(file, found.probabilities[found.organs.index(organ)], prepared.native)
        if files.in_dicom:
            more, told = write_dicom(files, source, found.labels, organs, model.digest)
            written, warnings = written + more, warnings + told
        yield Written(
            image, tuple(written), volumes(found, prepared.native), found.overlap_rate, tuple(warnings)
        )


def volumes(found: Prediction, grid: Grid) -> dict[str, float]:
    counts = np.bincount(found.labels.ravel(), minlength=len(found.organs) + 1)
    millilitres = float(np.prod(grid.spacing)) / 1000
    return {organ: int(counts[1 + index]) * millilitres for index, organ in enumerate(found.organs)}


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
