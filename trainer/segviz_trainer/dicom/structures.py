"""Structures: what a person drew into a study, by name or code, and the organ that each is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from segviz_trainer.dicom.stack import Stack
from segviz_trainer.process.errors import BadCase

_SCHEMES = ("SCT", "SRT", "FMA")
"""Of patterns that mean a code; SNOMED CT, its predecessor, and the Foundational Model of Anatomy."""
_SHOWN = 8


@dataclass(frozen=True)
class Structure:
    """A region of interest of an RTSTRUCT, or a segment of a SEG."""

    file: Path
    number: int
    name: str
    code: Code | None
    qualifiers: tuple[str, ...]
    """Values of the codes that modify `code`, such as a side."""
    is_drawn: bool

    def matches(self, pattern: str) -> bool:
        """By name, as a shell matches file names but for case, or by a code such as SCT:10200004."""
        scheme, colon, value = pattern.partition(":")
        if colon and scheme in _SCHEMES:
            # pydicom's comparison knows what SNOMED RT's codes became.
            return self.code is not None and self.code == Code(value, scheme, "")
        return fnmatchcase(self.name.casefold(), pattern.casefold())

    @property
    def identity(self) -> tuple[str, str, tuple[str, ...]]:
        """Two structures with the same one cannot be told apart."""
        code = f"{self.code.scheme_designator}:{self.code.value}" if self.code else ""
        return self.name.casefold(), code, self.qualifiers


class Drawing(Protocol):
    """A file with structures."""

    @property
    def path(self) -> Path: ...

    @property
    def space(self) -> str:
        """UID of its frame of reference; empty where it names none."""

    @property
    def series(self) -> frozenset[str]:
        """SeriesInstanceUIDs of the images that it was drawn on; empty where it names none."""

    @property
    def structures(self) -> tuple[Structure, ...]: ...

    def mask(self, structure: Structure, stack: Stack) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
        """(columns, rows, slices), and what is odd about it.

        Raises:
            BadCase: it cannot be brought to the grid of `stack` without a guess.
        """


def number_of(path: Path, item: Dataset, keyword: str) -> int:
    """Raises BadCase unless the header `keyword` is a whole number."""
    try:
        return int(item.get(keyword))
    except (TypeError, ValueError) as error:
        raise BadCase(
            path, f"has no number as {keyword} ({item.get(keyword)!r})", "Export it again"
        ) from error


def code_of(sequence: Sequence[Dataset] | None) -> Code | None:
    """The first code of a code sequence."""
    if not sequence:
        return None
    item = sequence[0]
    value = item.get("CodeValue") or item.get("LongCodeValue")
    return Code(str(value), str(item.get("CodingSchemeDesignator") or ""), "") if value else None


def qualifiers(types: Sequence[Dataset], regions: Sequence[Dataset] = ()) -> tuple[str, ...]:
    """Of items of a code sequence: their modifiers, such as a side, and the regions that they lie in."""
    found: list[Dataset] = []
    for item in types:
        found += item.get("SegmentedPropertyTypeModifierCodeSequence") or ()
    for item in regions:
        found += [item, *(item.get("AnatomicRegionModifierSequence") or ())]
    codes = (code_of([each]) for each in found)
    return tuple(sorted(f"{code.scheme_designator}:{code.value}" for code in codes if code))


def every(structures: Sequence[Structure]) -> dict[str, tuple[Structure, ...]]:
    """Each drawn structure as an organ by itself, for looking at data of which nothing is known."""
    drawn = sorted((each for each in structures if each.is_drawn), key=lambda each: each.name)
    return {name: tuple(group) for name, group in groupby(drawn, key=lambda each: each.name)}


def choose(
    folder: Path, wanted: Mapping[str, Sequence[str]], structures: Sequence[Structure]
) -> dict[str, tuple[Structure, ...]]:
    """The structures of each organ, by its patterns.

    Raises:
        BadCase: an organ has no structure, two organs claim one, or two of an organ cannot be told apart.
    """
    chosen = {
        organ: tuple(each for each in structures if any(each.matches(pattern) for pattern in patterns))
        for organ, patterns in wanted.items()
    }
    for structure in structures:
        owners = [organ for organ, own in chosen.items() if structure in own]
        if len(owners) > 1:
            raise BadCase(
                folder,
                f"has a structure {structure.name!r} that is matched by {' and by '.join(owners)}",
                "Write their patterns so that each structure belongs to one organ",
            )
    for organ, own in chosen.items():
        if not own:
            raise BadCase(
                folder,
                f"has no structure for {organ} ({', '.join(wanted[organ])}); it has {_names(structures)}",
                f"Correct the patterns, or leave the case out: {organ} not drawn does not mean that it is "
                "not there",
            )
        _check_twice(folder, organ, own)
    return chosen


def _check_twice(folder: Path, organ: str, own: Sequence[Structure]) -> None:
    seen: dict[tuple[str, str, tuple[str, ...]], Structure] = {}
    for each in own:
        if not each.is_drawn:
            continue
        other = seen.setdefault(each.identity, each)
        if other is not each:
            raise BadCase(
                folder,
                f"has two structures {each.name!r} for {organ}: {other.number} in {other.file.name}, "
                f"{each.number} in {each.file.name}",
                "Remove or rename one; which is meant cannot be known",
            )


def _names(structures: Sequence[Structure]) -> str:
    names = sorted({each.name for each in structures})
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
