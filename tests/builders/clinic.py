"""NIfTI cases as a clinic would have them: a folder of single-frame CT and an RTSTRUCT for each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from builders.dicom import SIGNED_16, Plane, write_single
from builders.drawings import loops_of, write_contours

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_study(folder: Path, image: Path, label: Path, structures: Mapping[str, Sequence[int]]) -> Path:
    """`structures`: by name, the label ids that it is the outline of. The axes lie along the patient's."""
    given = [nib.as_closest_canonical(nib.load(path)) for path in (image, label)]
    # Rows from left to right, columns from front to back, as a scanner has them.
    ct, ids = (np.asarray(each.dataobj)[::-1, ::-1].astype(np.int16) for each in given)
    affine = given[0].affine @ np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] += given[0].affine[:3, :2] @ (np.array(ct.shape[:2]) - 1)
    affine = _TO_LPS @ affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    turn = (affine[:3, :2] / spacing[:2]).T.ravel()
    planes = [
        Plane(
            ct[:, :, number].T,
            (affine @ (0, 0, number, 1))[:3].tolist(),
            intercept=0.0,
            orientation=turn.tolist(),
            spacing=(spacing[1], spacing[0]),
            bits=SIGNED_16,
        )
        for number in range(ct.shape[2])
    ]
    series = write_single(folder / "study" / "ct", planes)
    drawn = {name: loops_of(np.isin(ids, wanted), series) for name, wanted in structures.items()}
    write_contours(folder / "study" / "rt" / "structures.dcm", series, drawn)
    return folder
