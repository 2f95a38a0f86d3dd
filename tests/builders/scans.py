"""A NIfTI image with its label map as a DICOM series, as one would have come from the scanner."""

from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset

from builders.dicom import SIGNED_16, Plane, write_enhanced, write_single

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_scan(folder: Path, image: Path, label: Path, enhanced: bool = False) -> np.ndarray:
    """Write the image to `folder`; its labels (columns, rows, slices), slices ordered along their normal."""
    stored = nib.load(image)
    voxels = np.asarray(stored.dataobj).round().astype(np.int16)
    labels = np.asarray(nib.load(label).dataobj).astype(np.uint8)
    affine = _TO_LPS @ stored.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    columns, rows, normal = (affine[:3, :3] / spacing).T
    planes = [
        Plane(
            voxels[:, :, number].T,
            (affine @ (0, 0, number, 1))[:3].round(6).tolist(),
            intercept=0.0,
            orientation=np.concatenate([columns, rows]).round(8).tolist(),
            spacing=(float(spacing[1]), float(spacing[0])),
            bits=SIGNED_16,
        )
        for number in range(voxels.shape[2])
    ]
    if enhanced:
        write_enhanced(folder, planes, identify)
    else:
        write_single(folder, planes, lambda number, dataset: identify(dataset))
    return labels if np.cross(columns, rows) @ normal > 0 else labels[:, :, ::-1]


def identify(dataset: Dataset) -> None:
    """A patient and a study, as an archive asks for them."""
    dataset.PatientName, dataset.PatientID, dataset.PatientSex = "Doe^Jane", "4711", "F"
    dataset.PatientBirthDate, dataset.StudyDate, dataset.StudyTime = "19600102", "20250304", "101112"
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "", ""
    dataset.SeriesNumber, dataset.SliceThickness, dataset.PatientPosition = 1, "3", "HFS"
