"""A folder with one study: its series of images, and the files in which structures were drawn on them."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from segviz_trainer.dicom.contours import Contours, short
from segviz_trainer.dicom.segments import Segments
from segviz_trainer.dicom.series import sort_files, told
from segviz_trainer.dicom.structures import Drawing
from segviz_trainer.process.errors import BadCase

_IMAGES = ("CT", "MR")
_UNSHOWN = 4


@dataclass(frozen=True)
class Study:
    folder: Path
    series: Mapping[str, Mapping[Path, Dataset]]
    """CT and MR images by SeriesInstanceUID."""
    drawings: tuple[Drawing, ...]
    warnings: tuple[str, ...]
    """What else lies there."""


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, at any depth.

    Raises:
        BadCase: a folder cannot be read.
    """

    def closed(error: OSError) -> None:
        raise BadCase(
            Path(error.filename or folder), f"cannot be read ({error.strerror})", "Check its rights"
        ) from error

    for here, folders, names in os.walk(folder, onerror=closed):
        folders.sort()
        # A link to a folder is not followed, which whoever opens it will say.
        links = [name for name in folders if Path(here, name).is_symlink()]
        yield from (Path(here, name) for name in sorted(names + links))


def read_study(folder: Path) -> Study:
    """The headers of all that lies below `folder`.

    Raises:
        BadCase: a file is damaged, or is no DICOM file against its name.
    """
    found = sort_files(files_below(folder))
    drawings: list[Drawing] = []
    others = []
    for path, dataset in found.others.items():
        match dataset.get("Modality"):
            case "SEG":
                drawings.append(Segments(path, dataset))
            case "RTSTRUCT":
                drawings.append(Contours(path, dataset))
            case _:
                others.append(path.name)
    images = {uid: files for uid, files in found.series.items() if _modality(files) in _IMAGES}
    foreign = [described(uid, files) for uid, files in found.series.items() if uid not in images]
    skipped = {
        **found.skipped,
        "DICOM files without images or structures": others,
        "series that are neither CT nor MR": foreign,
    }
    warnings = tuple(told(what, names) for what, names in skipped.items() if names)
    return Study(folder, images, tuple(drawings), warnings)


def _modality(files: Mapping[Path, Dataset]) -> str:
    return str(next(iter(files.values())).get("Modality") or "")


def described(uid: str, files: Mapping[Path, Dataset]) -> str:
    first = next(iter(files.values()))
    said = str(first.get("SeriesDescription") or "").strip()
    return f"{_modality(files) or 'no modality'} {short(uid)}" + (f" {said!r}" if said else "")


def choose_series(study: Study, drawings: Sequence[Drawing]) -> str:
    """The SeriesInstanceUID of the images that all of `drawings` were drawn on.

    Raises:
        BadCase: there is none, or several; names them.
    """
    if not study.series:
        raise BadCase(study.folder, "has no series of CT or MR images", "Add the images, or leave it out")
    chosen: dict[str, Drawing] = {}
    for drawing in drawings:
        chosen[_series_of(study, drawing)] = drawing
    if len(chosen) > 1:
        pairs = "; ".join(
            f"{each.path.name} on {_named(study, [uid])}" for uid, each in sorted(chosen.items())
        )
        raise BadCase(
            study.folder,
            f"has structures on {len(chosen)} series: {pairs}",
            "Give each labelled series a folder of its own",
        )
    (uid,) = chosen
    return uid


def _series_of(study: Study, drawing: Drawing) -> str:
    space = drawing.space
    # What names no series is known by its frame of reference alone.
    candidates = [
        uid
        for uid, files in study.series.items()
        if (uid in drawing.series if drawing.series else _space(files) == space)
    ]
    if not candidates and drawing.series:
        wanted = ", ".join(short(uid) for uid in sorted(drawing.series)[:_UNSHOWN])
        raise BadCase(
            drawing.path,
            f"was drawn on the series {wanted}, which is not there; there are {_named(study, study.series)}",
            "Add that series to the folder",
        )
    if len(candidates) > 1:
        raise BadCase(
            drawing.path,
            f"was drawn on one of {len(candidates)} series, and does not say on which: "
            f"{_named(study, candidates)}",
            "Leave only the images that it belongs to",
        )
    spaces = {_space(study.series[uid]) for uid in candidates or study.series}
    if not space or spaces != {space}:
        theirs = ", ".join(short(each) if each else "none" for each in sorted(spaces))
        raise BadCase(
            drawing.path,
            f"has the frame of reference {short(space) if space else 'none'}, its images have {theirs}",
            "Give the structures that were drawn on these images, with their FrameOfReferenceUID",
        )
    return candidates[0]


def _space(files: Mapping[Path, Dataset]) -> str:
    return str(next(iter(files.values())).get("FrameOfReferenceUID") or "")


def _named(study: Study, uids: Iterable[str]) -> str:
    return ", ".join(described(uid, study.series[uid]) for uid in sorted(uids))
