"""What a data set holds, seen before its site joins: every file, its odd ones, and pictures of them."""

import base64
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2
import matplotlib.image
import numpy as np
from numpy.typing import NDArray

from segviz_trainer.data.headers import Header, check_header, read_volume
from segviz_trainer.data.labels import check_ids, integers
from segviz_trainer.data.layouts import Case, is_volume
from segviz_trainer.data.opened import Opened, opened
from segviz_trainer.data.preprocess import check_same_grid, doubts, read_image
from segviz_trainer.process.errors import BadCase

_TINY_VOXELS = 16
_SHOWN_WINDOW = (-200.0, 304.0)
_SIDE = 160


@dataclass(frozen=True)
class Surveyed:
    """One case."""

    id: str
    shape: str = ""
    spacing: str = ""
    orientation: str = ""
    intensities: str = ""
    """1st percentile, median, 99th."""
    voxels: tuple[tuple[int, int], ...] = ()
    """Label ids with their numbers of voxels."""
    structures: tuple[tuple[str, int], ...] = ()
    """The same of DICOM, by name."""
    remarks: tuple[str, ...] = ()
    error: str | None = None
    """Why the case cannot be used."""
    picture: str | None = None
    """PNG as a data URL: a slice with its label in colour."""


def loose(folder: Path) -> tuple[Case, ...]:
    """Every NIfTI file of a folder without a layout, each as an image without a label."""
    files = sorted(path for path in folder.iterdir() if is_volume(path))
    return tuple(Case(path.name, path, path, folder.name, {}, ()) for path in files)


@dataclass(frozen=True)
class Survey:
    cases: tuple[Surveyed, ...]

    @property
    def unusable(self) -> int:
        return sum(case.error is not None for case in self.cases)

    def counts(self, of: Callable[[Surveyed], str]) -> list[tuple[str, int]]:
        """How often each value occurs among usable cases, the most frequent first."""
        return Counter(of(case) for case in self.cases if case.error is None).most_common()

    @property
    def ids(self) -> list[tuple[int, int]]:
        """Label ids with the number of cases that have them."""
        found = Counter(label_id for case in self.cases for label_id, _ in case.voxels)
        return sorted(found.items())

    @property
    def structures(self) -> list[tuple[str, int]]:
        """Names of structures, or of the organs they are, with the number of cases that have them."""
        return sorted(Counter(name for case in self.cases for name, _ in case.structures).items())


def survey(cases: Sequence[Case], max_mebibytes: int, report: Callable[[int, int, str], object]) -> Survey:
    """Look at every case; one that cannot be used is part of the answer, never an exception."""
    surveyed = []
    for done, case in enumerate(cases, start=1):
        try:
            with opened(case, max_mebibytes) as files:
                seen = _look(files.case, max_mebibytes)
            surveyed.append(_as_stored(case, files, seen))
        except BadCase as error:
            surveyed.append(Surveyed(case.id, error=str(error)))
        report(done, len(cases), case.id)
    return Survey(tuple(surveyed))


def _as_stored(case: Case, files: Opened, seen: Surveyed) -> Surveyed:
    """What was seen in the files that stand for the case, told as its owner knows it."""
    if case.structures is None:
        return seen
    names = {ids[0]: organ for organ, ids in files.case.organs.items()}
    named = tuple((names[label_id], count) for label_id, count in seen.voxels if label_id in names)
    return replace(seen, voxels=(), structures=named, remarks=files.warnings + seen.remarks)


def _look(case: Case, max_mebibytes: int) -> Surveyed:
    header = check_header(case.image, max_mebibytes)
    labelled = bool(case.organs)
    if labelled:
        label_header = check_header(case.label, max_mebibytes)
        check_same_grid(case, header, label_header)
    image = read_image(case.image, header)
    label: NDArray[np.integer] = np.zeros(header.shape, np.uint8)
    if labelled:
        label = integers(case, read_volume(case.label, label_header))
        check_ids(case, label)
    ids, counts = np.unique(label, return_counts=True)
    voxels = tuple((int(i), int(n)) for i, n in zip(ids, counts, strict=True) if i != 0)
    low, middle, high = (float(np.percentile(image, share)) for share in (1, 50, 99))
    return Surveyed(
        id=case.id,
        shape="×".join(map(str, header.shape)),
        spacing="×".join(f"{length:.2f}" for length in header.spacing),
        orientation=header.orientation,
        intensities=f"{low:.0f} / {middle:.0f} / {high:.0f}",
        voxels=voxels,
        remarks=_remarks(header, image, voxels, case if labelled else None),
        picture=_picture(image, label, header),
    )


def _remarks(
    header: Header, image: NDArray[np.float32], voxels: Sequence[tuple[int, int]], case: Case | None
) -> tuple[str, ...]:
    remarks = list(header.warnings)
    if case is None:
        remarks.append("has no label")
    present = {label_id for label_id, _ in voxels}
    for organ, ids in case.organs.items() if case else ():
        if not present & set(ids):
            remarks.append(f"no voxel of {organ}")
    if min(header.shape) < _TINY_VOXELS:
        remarks.append(f"tiny: {min(header.shape)} voxels along one axis")
    return (*remarks, *doubts(image))


def _picture(image: NDArray[np.float32], label: NDArray[np.generic], header: Header) -> str:
    """The slice across the axis nearest to superior that shows most of the label."""
    axis = next(i for i, code in enumerate(header.orientation) if code in "SI")
    others = tuple(i for i in range(3) if i != axis)
    per_slice = (label != 0).sum(axis=others)
    best = int(per_slice.argmax()) if per_slice.any() else label.shape[axis] // 2
    plane, mask = image.take(best, axis), label.take(best, axis) != 0
    low, high = _SHOWN_WINDOW if image.min() < 0 else (float(image.min()), float(image.max()))
    grey = np.asarray(np.clip((plane - low) / max(high - low, 1e-6), 0, 1))
    colour: NDArray[np.float32] = np.repeat(grey[..., None], 3, axis=2)
    colour[mask] = 0.55 * colour[mask] + 0.45 * np.array([0.0, 0.62, 0.45])
    # First array axis to the right, the second upwards; thinned to a thumbnail.
    step = max(1, max(plane.shape) // _SIDE)
    png = io.BytesIO()
    upright = np.ascontiguousarray(colour[::step, ::step].transpose(1, 0, 2)[::-1])
    matplotlib.image.imsave(png, upright, format="png")
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


_SHEET = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem; color: #222; background: #fff }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 1rem }
.case { border: 1px solid #ccc; border-radius: 6px; padding: .6rem; overflow-wrap: anywhere }
.case img { width: 100%; image-rendering: pixelated; background: #000 }
.bad { border-color: #b3261e } .odd { border-color: #8a6100 }
.error { color: #b3261e } .remark { color: #8a6100 }
</style>
<h1>{{ title }}</h1>
<p>{{ survey.cases | length }} cases, {{ survey.unusable }} of them unusable.
Green is what some label covers.</p>
<div class="cases">
{% for case in survey.cases %}
<div class="case {{ 'bad' if case.error else 'odd' if case.remarks else '' }}">
<strong>{{ case.id }}</strong>
{% if case.picture %}<img src="{{ case.picture }}" alt="Slice of {{ case.id }} with its label">{% endif %}
{% if case.error %}<div class="error">{{ case.error }}</div>{% else %}
<div>{{ case.shape }}, {{ case.spacing }} mm, {{ case.orientation }}</div>
<div>values {{ case.intensities }}</div>
{% set found = case.voxels or case.structures %}
<div>{% for id, voxels in found %}{{ id }}: {{ voxels }}{{ ", " if not loop.last }}{% endfor %}</div>
{% endif %}
{% for remark in case.remarks %}<div class="remark">{{ remark }}</div>{% endfor %}
</div>
{% endfor %}
</div></html>
""")


def sheet(survey: Survey, title: str) -> str:
    """One HTML page with everything in it."""
    return _SHEET.render(survey=survey, title=title)


def write_sheet(survey: Survey, title: str, path: Path) -> None:
    path.write_text(sheet(survey, title), encoding="utf-8")
