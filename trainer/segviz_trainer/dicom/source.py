"""The series that a result belongs to: its slices in the volume's order, and the headers that it repeats."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from segviz_trainer.dicom.series import find_series, read_stack
from segviz_trainer.dicom.slices import Slice
from segviz_trainer.process.errors import BadCase

_REFERRED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPClassUID", "SOPInstanceUID")
_SHARED = ("StudyInstanceUID", "PatientID", "PatientName")
PATIENT_AND_STUDY = {
    "PatientName": "",
    "PatientID": "",
    "PatientBirthDate": "",
    "PatientSex": "",
    "StudyDate": "",
    "StudyTime": "",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "StudyID": "",
}
"""What every object carries, if empty: what the source has of it is taken over."""


def decimals(numbers: ArrayLike) -> list[str]:
    """As decimal strings, of the 16 characters at most that DICOM has room for."""
    return [format_number_as_ds(number) for number in np.ravel(numbers).astype(np.float64).tolist()]


@dataclass(frozen=True)
class Source:
    """A series of images of one patient and study, in one frame of reference."""

    slices: tuple[Slice, ...]
    """In the order of the volume's third axis."""
    headers: Mapping[Path, Dataset]
    """Of each file, without its voxels."""

    @property
    def first(self) -> Dataset:
        return self.headers[self.slices[0].file]

    @property
    def gap(self) -> float:
        """Millimetres between neighbouring slices."""
        first, last = self.slices[0].position, self.slices[-1].position
        return float(np.linalg.norm(last - first)) / (len(self.slices) - 1)

    def header(self, each: Slice) -> Dataset:
        return self.headers[each.file]

    def instances(self) -> Iterator[Dataset]:
        """The headers of each file once, by the place of its first slice."""
        return (self.headers[file] for file in dict.fromkeys(each.file for each in self.slices))


def source_of(folder: Path, max_mebibytes: int) -> Source:
    """The series in a folder; no voxel is decoded.

    Raises:
        Refusal: the series cannot be read, or lacks what a result refers to.
    """
    files = find_series(folder).files
    stack = read_stack(folder, files, max_mebibytes)
    for path, dataset in files.items():
        for keyword in _REFERRED:
            if not dataset.get(keyword):
                raise BadCase(
                    path,
                    f"has no {keyword}, which a DICOM result refers to",
                    "Write NIfTI, or export it again",
                )
    for keyword in _SHARED:
        values = {str(dataset.get(keyword) or "") for dataset in files.values()}
        if len(values) > 1:
            raise BadCase(
                folder,
                f"its files differ in {keyword}, so a DICOM result would belong to nobody for sure",
                "Give the files of one patient and study",
            )
    uid, times = Counter(dataset.SOPInstanceUID for dataset in files.values()).most_common(1)[0]
    if times > 1:
        raise BadCase(
            folder,
            f"{times} of its files have the same SOPInstanceUID {uid}, so a DICOM result cannot refer to one",
            "Export the series again",
        )
    return Source(stack.slices, files)
