"""A folder with one DICOM series, as a NIfTI file."""

import itertools
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from segviz_exchange.errors import Refusal

_POSITION = "0020|0032"  # ImagePositionPatient


def series_to_nifti(folder: Path, target: Path) -> None:
    """Write the one series of `folder` to `target`; rescaled to HU as its headers say.

    Raises:
        Refusal: there is no series, more than one, or slices are missing.
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
    """ITK stacks what it finds; a slice that is missing would shift all that follow."""
    places = [
        [float(each) for each in reader.GetMetaData(number, _POSITION).split("\\")]
        for number in range(len(reader.GetFileNames()))
        if reader.HasMetaDataKey(number, _POSITION)
    ]
    gaps = [
        sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5
        for one, other in itertools.pairwise(places)
    ]
    if gaps and max(gaps) - min(gaps) > 0.1 * min(gaps) + 1e-3:
        raise Refusal(
            f"{folder}: its slices lie {min(gaps):.2f} to {max(gaps):.2f} mm apart: some are missing or come "
            "twice. Export the series again, whole."
        )
