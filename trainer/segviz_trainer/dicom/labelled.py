"""A study with structures, as an image and a label map on one grid."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segviz_trainer.dicom.series import lossy_slices, read_stack, read_voxels, told, write_volume
from segviz_trainer.dicom.stack import Stack
from segviz_trainer.dicom.structures import Drawing, Structure, choose, every
from segviz_trainer.dicom.study import Study, choose_series, described, read_study
from segviz_trainer.process.errors import BadCase

_MOST_SHARED = 0.05
"""Of an organ's voxels: a border that was drawn twice; above it the two mean the same thing."""


@dataclass(frozen=True)
class Labelled:
    """A study whose structures have been assigned to organs."""

    study: Study
    stack: Stack
    organs: Mapping[str, tuple[Structure, ...]]
    """In the order of their ids."""
    is_strict: bool
    """Whether `organs` are what somebody asked for, and not just all that was found."""
    warnings: tuple[str, ...]

    @property
    def ids(self) -> dict[str, int]:
        """The id of each organ in the label map."""
        return {organ: number for number, organ in enumerate(self.organs, start=1)}

    @property
    def shared_id(self) -> int:
        """The id of voxels that two organs claim."""
        return len(self.organs) + 1


def open_labelled(folder: Path, structures: Mapping[str, Sequence[str]], max_mebibytes: int) -> Labelled:
    """Find images and structures by headers alone; without `structures`, each one found is its own organ.

    Raises:
        BadCase: what the headers leave open, or what is missing; names it.
    """
    study = read_study(folder)
    found = [structure for drawing in study.drawings for structure in drawing.structures]
    if not found:
        raise BadCase(folder, "has no RTSTRUCT and no SEG with structures", "Add one, or leave it out")
    chosen = choose(folder, structures, found) if structures else every(found)
    used = {structure.file for own in chosen.values() for structure in own if structure.is_drawn}
    drawings = [drawing for drawing in study.drawings if drawing.path in used]
    if not drawings:
        raise BadCase(
            folder, f"has nothing drawn as {', '.join(chosen) or 'any structure'}", "Leave the case out"
        )
    uid = choose_series(study, drawings)
    stack = read_stack(folder, study.series[uid], max_mebibytes)
    warnings = (*study.warnings, *_left_out(study, uid, found, chosen), *_told(chosen), *lossy_slices(stack))
    return Labelled(study, stack, chosen, bool(structures), warnings)


def _left_out(
    study: Study, uid: str, found: Sequence[Structure], chosen: Mapping[str, Sequence[Structure]]
) -> list[str]:
    used = [each for own in chosen.values() for each in own]
    kinds = {
        "structures that no organ asks for": sorted(
            each.name for each in found if each.is_drawn and each not in used
        ),
        "series without structures that are asked for": [
            described(other, files) for other, files in study.series.items() if other != uid
        ],
    }
    return [told(what, names) for what, names in kinds.items() if names]


def _told(chosen: Mapping[str, Sequence[Structure]]) -> Iterator[str]:
    for organ, own in chosen.items():
        drawn = sorted((each for each in own if each.is_drawn), key=lambda each: (each.name, each.number))
        if len(drawn) > 1:
            yield f"{organ} is united from {', '.join(each.name for each in drawn)}"
        if not drawn:
            yield f"{organ} counts as not there: {', '.join(each.name for each in own)} is not drawn"


def write_image(labelled: Labelled, target: Path) -> None:
    """As a NIfTI file, rescaled to HU as its headers say."""
    write_volume(read_voxels(labelled.stack), labelled.stack, target)


def write_label(labelled: Labelled, target: Path) -> tuple[str, ...]:
    """The label map as a NIfTI file on the image's grid; returns what is odd about the structures.

    Raises:
        BadCase: a structure cannot be brought to the grid, or two organs claim the same voxels.
    """
    label, warnings = label_of(labelled)
    write_volume(label, labelled.stack, target)
    return warnings


def label_of(labelled: Labelled) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    """(columns, rows, slices) of ids, and what is odd about the structures."""
    label = np.zeros(labelled.stack.shape, np.uint16)
    sizes: dict[str, int] = {}
    lost: Counter[str] = Counter()
    warnings: list[str] = []
    for organ, number in labelled.ids.items():
        mask, remarks = _mask(labelled, organ)
        warnings += remarks
        sizes[organ] = int(mask.sum())
        claimed = mask & (label != 0)
        owners = np.bincount(label[claimed], minlength=labelled.shared_id + 1)
        label[mask] = number
        if labelled.is_strict and claimed.any():
            lost[organ] += int(claimed.sum())
            lost.update({other: int(owners[id_]) for other, id_ in labelled.ids.items() if owners[id_]})
            label[claimed] = labelled.shared_id
    _check_shared(labelled, sizes, lost)
    if lost:
        counts = ", ".join(f"{organ} {count}" for organ, count in sorted(lost.items()))
        warnings.append(f"voxels that two organs claim neither train nor score ({counts})")
    return label, tuple(warnings)


def _mask(labelled: Labelled, organ: str) -> tuple[NDArray[np.bool_], list[str]]:
    drawings: dict[Path, Drawing] = {drawing.path: drawing for drawing in labelled.study.drawings}
    whole = np.zeros(labelled.stack.shape, bool)
    remarks: list[str] = []
    for structure in labelled.organs[organ]:
        if structure.is_drawn:
            try:
                mask, odd = drawings[structure.file].mask(structure, labelled.stack)
            except BadCase as error:
                if labelled.is_strict:
                    raise
                remarks.append(f"{structure.name} cannot be used: {error.reason}")
                continue
            whole |= mask
            remarks += odd
    return whole, remarks


def _check_shared(labelled: Labelled, sizes: Mapping[str, int], lost: Mapping[str, int]) -> None:
    worst = max(lost, key=lambda organ: lost[organ] / sizes[organ], default=None)
    if worst is not None and lost[worst] > _MOST_SHARED * sizes[worst]:
        raise BadCase(
            labelled.study.folder,
            f"has {lost[worst]} of the {sizes[worst]} voxels of {worst} in another organ, too",
            "Give each voxel to one organ, or leave one of the two out",
        )
