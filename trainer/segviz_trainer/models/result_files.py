"""The files that predictions go to: named after their images, never in place of one, complete or absent."""

import enum
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from segviz_exchange.process.errors import Refusal
from segviz_trainer.data.grids import Grid

_LONGEST_NAME = 255
"""Bytes of a file's name, on nearly every file system."""


class Format(enum.StrEnum):
    NIFTI = "nifti"
    DICOM_SEG = "dicom-seg"
    RTSTRUCT = "rtstruct"


@dataclass(frozen=True)
class Planned:
    """An image and the files that its results go to."""

    image: Path
    results: Mapping[Format, Path]
    probabilities: Mapping[str, Path]
    """By organ; empty where they are not asked for."""

    @property
    def in_dicom(self) -> bool:
        return any(each is not Format.NIFTI for each in self.results)


_ENDINGS = {Format.NIFTI: ".nii.gz", Format.DICOM_SEG: "_seg.dcm", Format.RTSTRUCT: "_rtstruct.dcm"}


def plan_files(image: Path, output: Path, organs: Sequence[str], formats: Sequence[Format]) -> Planned:
    name = image.resolve().name.removesuffix(".gz").removesuffix(".nii")
    return Planned(
        image,
        {each: output / f"{name}{_ENDINGS[each]}" for each in formats},
        {organ: output / f"{name}_{organ}.nii.gz" for organ in organs},
    )


def check_files(planned: Sequence[Planned]) -> None:
    """Raises Refusal where a result would replace an image, a file of a DICOM series or another result.

    Also where its name is longer than file systems take, before a model has run for nothing.
    """
    inputs = {files.image.resolve() for files in planned}
    owners: dict[Path, Path] = {}
    for files in planned:
        for file in (*files.results.values(), *files.probabilities.values()):
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


def make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal(
            f"{output}: cannot be written ({error.strerror}). Name another folder with --output."
        ) from error


def write_legend(output: Path, organs: Mapping[str, int]) -> None:
    """Raises Refusal where the folder says otherwise already: label maps there would change their meaning."""
    file, legend = output / "labels.json", {"background": 0} | dict(organs)
    try:
        if file.exists():
            if _meaning(file) != legend:
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
        file.write_text(json.dumps(legend, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise Refusal(
            f"{output}: cannot be written ({error.strerror}). Name another folder with --output."
        ) from error


def _meaning(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except ValueError:
        return None


def save(path: Path, values: NDArray[np.generic], grid: Grid) -> None:
    """As NIfTI."""
    image = nib.Nifti1Image(values, grid.matrix)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    with whole(path) as partial:
        nib.save(image, partial)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write to, so that the file is complete or absent."""
    partial = partial_of(path)
    try:
        yield partial
        partial.rename(path)
    except OSError as error:
        raise Refusal(
            f"{path}: cannot be written ({error.strerror}). Make room, or check the folder."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def partial_of(path: Path) -> Path:
    return path.with_name(f".partial-{path.name}")
