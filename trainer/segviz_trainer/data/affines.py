"""Where a NIfTI volume lies in the patient: its affine, checked for what resampling relies on."""

from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray

from segviz_trainer.process.errors import BadCase

# Cosine between two array axes; above it the edges of a 500 mm volume would be off by half a millimetre.
_MAX_SHEAR = 1e-3
_SPACING_MM = (1e-3, 1e3)
_MAX_OFFSET_MM = 1e6
_FORMS_AGREE_MM = 0.1


def affine_of(path: Path, fields: Nifti1Header) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The (4, 4) affine of a NIfTI-1 header, and warnings; the sform wins over the qform, as in nibabel.

    Raises:
        BadCase: neither form is set, or the quaternion is none.
    """
    qform_code, sform_code = int(fields["qform_code"]), int(fields["sform_code"])
    if qform_code <= 0 and sform_code <= 0:
        raise BadCase(
            path,
            "does not say how it lies in the patient (qform and sform codes are 0)",
            "Export it again with its orientation; left and right cannot be guessed",
        )
    qform = _qform(path, fields) if qform_code > 0 else None
    if sform_code <= 0:
        assert qform is not None  # one of the two codes is positive, see above
        return qform, ()
    sform: NDArray[np.float64] = fields.get_sform()  # type: ignore[no-untyped-call]
    if qform is not None and not np.allclose(qform, sform, rtol=0, atol=_FORMS_AGREE_MM):
        return sform, ("qform and sform disagree; the sform is used",)
    return sform, ()


def check_affine(path: Path, affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """The spacing in mm along the array's axes.

    Raises:
        BadCase: the affine is not finite, singular, implausibly scaled, or its axes are not orthogonal.
    """
    if not np.isfinite(affine).all() or np.abs(affine[:3, 3]).max() > _MAX_OFFSET_MM:
        raise BadCase(path, "has an affine with infinite or far-off numbers", "Export it again")
    axes = affine[:3, :3]
    x, y, z = np.sqrt((axes**2).sum(axis=0)).tolist()
    if not all(_SPACING_MM[0] <= length <= _SPACING_MM[1] for length in (x, y, z)):
        raise BadCase(
            path, f"has a singular or implausible affine (spacing {(x, y, z)} mm)", "Export it again"
        )
    directions = axes / (x, y, z)
    if abs(np.linalg.det(directions)) < _MAX_SHEAR:
        raise BadCase(path, "has a singular affine: two axes point the same way", "Export it again")
    cosines = np.abs(directions.T @ directions - np.eye(3))
    if cosines.max() > _MAX_SHEAR:
        degrees = np.degrees(np.arcsin(min(cosines.max(), 1.0)))
        raise BadCase(
            path,
            f"has a sheared affine: two axes are {degrees:.1f} degrees off a right angle (a tilted gantry?)",
            "Resample image and label to a grid with right angles",
        )
    return x, y, z


def axis_codes(affine: NDArray[np.float64]) -> str:
    """Where each array axis points, such as `LPS`; `affine` has orthogonal axes."""
    axes = affine[:3, :3]
    directions = np.abs(axes / np.sqrt((axes**2).sum(axis=0)))
    codes = ["", "", ""]
    # The clearest axis chooses first, so that an oblique volume never names one direction twice.
    for _ in range(3):
        row, column = np.unravel_index(np.argmax(directions), (3, 3))
        codes[column] = ("RL", "AP", "SI")[row][int(axes[row, column] < 0)]
        directions[row, :] = -1
        directions[:, column] = -1
    return "".join(codes)


def _qform(path: Path, fields: Nifti1Header) -> NDArray[np.float64]:
    """Not nibabel's `get_qform`, which is stricter with quaternions that are rounded."""
    b, c, d = (float(fields[f"quatern_{axis}"]) for axis in "bcd")
    offset = [float(fields[f"qoffset_{axis}"]) for axis in "xyz"]
    pixdim = fields["pixdim"].tolist()
    # nifti1.h: a unit quaternion, of which a >= 0 is left out.
    a_squared = 1.0 - (b * b + c * c + d * d)
    if not np.isfinite([b, c, d, *offset]).all() or a_squared < -1e-5:
        raise BadCase(path, f"has an invalid quaternion ({b}, {c}, {d})", "Export it again")
    a = max(a_squared, 0.0) ** 0.5
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    handedness = -1.0 if pixdim[0] < 0 else 1.0
    affine = np.eye(4)
    affine[:3, :3] = rotation * (pixdim[1], pixdim[2], pixdim[3] * handedness)
    affine[:3, 3] = offset
    return affine
