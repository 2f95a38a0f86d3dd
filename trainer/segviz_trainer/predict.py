"""From image files to label maps beside each other in one folder."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from segviz_exchange.errors import Refusal
from segviz_trainer.dicom import series_to_nifti
from segviz_trainer.grids import Grid
from segviz_trainer.preprocess import prepare_image
from segviz_trainer.trained import Model, Prediction

MAX_MEBIBYTES = 4096


@dataclass(frozen=True)
class Written:
    image: Path
    labels: Path
    millilitres: dict[str, float]
    """By organ."""
    overlap_rate: float


def predict_files(
    model: Model,
    images: Sequence[Path],
    output: Path,
    probabilities: bool,
    report: Callable[[Path, int, int], object],
) -> Iterator[Written]:
    """Predict each image; `report` is told the image, windows done and windows in all.

    Raises:
        Refusal: two images would be written to one file.
        BadCase: an image cannot be used; names it.
    """
    names = [name_of(image) for image in images]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Refusal(f"{', '.join(twice)}: the name of two images. Predict them into different folders.")
    output.mkdir(parents=True, exist_ok=True)
    ids = {organ: index for index, organ in enumerate(model.trained.organs, start=1)}
    (output / "labels.json").write_text(
        json.dumps({"background": 0} | ids, indent=2) + "\n", encoding="utf-8"
    )
    for image, name in zip(images, names, strict=True):
        with as_nifti(image) as file:
            prepared = prepare_image(file, model.preprocessing, MAX_MEBIBYTES)
        voxels = torch.from_numpy(prepared.voxels)[None]
        found = model.predict(voxels, prepared, partial(report, image))
        labels = output / f"{name}.nii.gz"
        save(labels, found.labels, prepared.native)
        if probabilities:
            for organ, values in zip(found.organs, found.probabilities, strict=True):
                save(output / f"{name}_{organ}.nii.gz", values, prepared.native)
        yield Written(image, labels, volumes(found, prepared.native), found.overlap_rate)


def volumes(found: Prediction, grid: Grid) -> dict[str, float]:
    counts = np.bincount(found.labels.ravel(), minlength=len(found.organs) + 1)
    millilitres = float(np.prod(grid.spacing)) / 1000
    return {organ: int(counts[1 + index]) * millilitres for index, organ in enumerate(found.organs)}


def save(path: Path, values: NDArray[np.generic], grid: Grid) -> None:
    """A file that is complete or absent."""
    image = nib.Nifti1Image(values, grid.matrix)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    partial = path.with_name(f".partial-{path.name}")
    nib.save(image, partial)
    partial.rename(path)


def name_of(image: Path) -> str:
    return image.resolve().name.removesuffix(".gz").removesuffix(".nii")


@contextmanager
def as_nifti(image: Path) -> Iterator[Path]:
    """The image itself, or what the DICOM series in the folder holds."""
    if not image.is_dir():
        yield image
        return
    with tempfile.TemporaryDirectory(prefix="segviz-dicom-") as folder:
        file = Path(folder) / f"{image.name}.nii.gz"
        series_to_nifti(image, file)
        yield file
