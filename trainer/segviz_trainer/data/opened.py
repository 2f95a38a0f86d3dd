"""A case as NIfTI files on one grid, whatever it is stored as: from here on there is one way of reading."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from segviz_trainer.data.grids import Grid
from segviz_trainer.data.headers import check_header
from segviz_trainer.data.layouts import Case
from segviz_trainer.dicom.labelled import open_labelled, write_image, write_label
from segviz_trainer.process.errors import BadCase


@dataclass(frozen=True)
class Opened:
    """The case to read, with what is odd about where it came from."""

    case: Case
    warnings: tuple[str, ...] = ()


@contextmanager
def opened(case: Case, max_mebibytes: int) -> Iterator[Opened]:
    """The case itself, or what its folder of DICOM holds, for as long as the context lasts.

    Raises:
        BadCase: images or structures are unusable; also for what is found wrong with the files within.
    """
    if case.structures is None:
        yield Opened(case)
        return
    labelled = open_labelled(case.image, case.structures, max_mebibytes)
    with tempfile.TemporaryDirectory(prefix="segviz-dicom-") as folder:
        image, label = Path(folder) / "image.nii", Path(folder) / "label.nii"
        # Labels first: what is wrong with them is found before thousands of slices are decoded.
        warnings = labelled.warnings + write_label(labelled, label)
        write_image(labelled, image)
        organs = {organ: (number,) for organ, number in labelled.ids.items()}
        files = replace(
            case, image=image, label=label, organs=organs, ignored=(labelled.shared_id,), structures=None
        )
        try:
            yield Opened(files, warnings)
        except BadCase as error:
            if error.path not in (image, label):
                raise
            raise BadCase(case.image, error.reason, error.hint) from error


def native_grid(case: Case, max_mebibytes: int) -> Grid:
    """Where its image lies, by headers alone. Raises BadCase."""
    if case.structures is None:
        header = check_header(case.image, max_mebibytes)
        return Grid.of(header.shape, header.affine)
    stack = open_labelled(case.image, case.structures, max_mebibytes).stack
    return Grid.of(stack.shape, stack.affine)
