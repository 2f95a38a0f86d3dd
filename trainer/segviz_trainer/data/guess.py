"""Which layout a folder has, by what lies in it."""

from itertools import islice
from pathlib import Path

from pydicom.misc import is_dicom

from segviz_exchange.contract.choices import Layout
from segviz_exchange.process.errors import Refusal
from segviz_trainer.dicom.study import files_below

_LOOKED_AT = 5


def guess_layout(folder: Path) -> Layout | None:
    """By what lies in the folder; None where it looks like none of them.

    Raises:
        Refusal: the folder cannot be read.
    """
    try:
        if (folder / "dataset.json").is_file():
            return Layout.MSD
        if (folder / "img").is_dir() and (folder / "label").is_dir():
            return Layout.BTCV
        if (folder / "cases.csv").is_file():
            return Layout.LIST
        if any(folder.glob("case_*/imaging.nii.gz")):
            return Layout.KITS19
        return Layout.DICOM if any(map(_has_dicom, folder.iterdir())) else None
    except OSError as error:
        raise Refusal(
            f"{error.filename or folder}: cannot be read ({error.strerror}). "
            "Give this user the right to read it."
        ) from error


def _has_dicom(folder: Path) -> bool:
    """Whether there is DICOM among its first files."""
    if folder.name.startswith(".") or not folder.is_dir():
        return False
    return any(map(is_dicom, islice(files_below(folder), _LOOKED_AT)))
