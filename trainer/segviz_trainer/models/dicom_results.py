"""Predictions as DICOM objects of the study that their images come from."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segviz_trainer.dicom.algorithm import Algorithm
from segviz_trainer.dicom.rtstruct import structure_set_of
from segviz_trainer.dicom.segmentation import check_segmentable, segmentation_of
from segviz_trainer.dicom.source import Source, source_of
from segviz_trainer.models.result_files import Format, Planned, whole


def open_source(files: Planned, max_mebibytes: int) -> Source:
    """The series in the image's folder. Raises Refusal where a result cannot refer to it."""
    source = source_of(files.image, max_mebibytes)
    if Format.DICOM_SEG in files.results:
        check_segmentable(files.image, source)
    return source


def write_dicom(
    files: Planned, source: Source, labels: NDArray[np.uint8], organs: Mapping[str, int], digest: str
) -> tuple[list[Path], list[str]]:
    """Write the DICOM formats among the results; what was written, and warnings.

    An organ without a voxel is left out: neither format has room for an empty segment or contour.

    Args:
        labels: (X, Y, Z), on the grid of the source's volume.
        organs: by name, what they are in `labels`.
        digest: of the model's file.
    """
    counts = np.bincount(labels.ravel(), minlength=256)
    found = {organ: number for organ, number in organs.items() if counts[number]}
    missing = [organ for organ in organs if organ not in found]
    warnings = [f"not found, so not in its DICOM results: {', '.join(missing)}"] if missing else []
    if not found:
        return [], ["no organ was found, so it has no DICOM results"]
    algorithm = Algorithm.of(digest)
    written = []
    for each, path in files.results.items():
        if each is Format.DICOM_SEG:
            dataset = segmentation_of(source, labels, found, algorithm)
        elif each is Format.RTSTRUCT:
            dataset = structure_set_of(source, labels, found, algorithm, datetime.now())
        else:
            continue
        with whole(path) as partial:
            dataset.save_as(partial, enforce_file_format=True)
        written.append(path)
    return written, warnings
