"""A folder with one DICOM series, as a NIfTI file."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from segviz_exchange.process.errors import Refusal

_POSITION = "0020|0032"  # ImagePositionPatient
_ORIENTATION = "0020|0037"  # ImageOrientationPatient
_MAX_SHEAR = 1e-3  # that of an affine
_ROUNDED_MM = 0.02
"""Between two positions of which each coordinate is rounded to a hundredth."""


def series_to_nifti(folder: Path, target: Path) -> None:
    """Write the one series of `folder` to `target`; rescaled to HU as its headers say.

    Raises:
        Refusal: there is no series, more than one, or slices are missing, or the gantry was tilted.
    """
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        found = "no DICOM series" if not series else f"{len(series)} DICOM series: {', '.join(series)}"
        raise Refusal(f"{folder}: holds {found}. Give a folder with the files of one series.")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0]))
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        image = reader.Execute()
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        raise Refusal(f"{folder}: cannot be read as one volume: {lines[-1]}. Export it again.") from error
    _check_slices(folder, reader)
    sitk.WriteImage(image, str(target))


def _check_slices(folder: Path, reader: sitk.ImageSeriesReader) -> None:
    """ITK stacks what it finds along the normal: what lies beside or beyond its place would be shifted."""
    places = np.array(
        [
            _numbers(reader, number, _POSITION)
            for number in range(len(reader.GetFileNames()))
            if reader.HasMetaDataKey(number, _POSITION)
        ]
    )
    if len(places) < 2:
        return
    gaps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    if gaps.max() - gaps.min() > 0.1 * gaps.min() + 1e-3:
        raise Refusal(
            f"{folder}: its slices lie {gaps.min():.2f} to {gaps.max():.2f} mm apart: some are missing or "
            "come twice. Export the series again, whole."
        )
    if not reader.HasMetaDataKey(0, _ORIENTATION):
        return
    rows, columns = np.reshape(_numbers(reader, 0, _ORIENTATION), (2, 3))
    normal = np.cross(rows, columns)
    normal /= np.linalg.norm(normal)  # headers round it too
    from_first = places - places[0]
    along = from_first @ normal
    aside = np.linalg.norm(from_first - along[:, None] * normal, axis=1)
    # From the first, not from slice to slice: over thin slices rounding alone would be a tilt.
    if (aside > _MAX_SHEAR * np.abs(along) + _ROUNDED_MM).any():
        degrees = np.degrees(np.arctan2(aside[-1], abs(along[-1])))
        raise Refusal(
            f"{folder}: its slices are stacked {degrees:.1f} degrees off a right angle (a tilted gantry?). "
            "Resample it to a grid with right angles."
        )


def _numbers(reader: sitk.ImageSeriesReader, number: int, tag: str) -> list[float]:
    return [float(each) for each in reader.GetMetaData(number, tag).split("\\")]
