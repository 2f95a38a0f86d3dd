"""A site's fingerprint, measured from the files of its cases."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from segviz_exchange.contract.choices import OnBadCase
from segviz_exchange.contract.fingerprint import (
    FLOOR,
    LEVELS,
    Axes,
    Fingerprint,
    Intensities,
    OrganSize,
    Spread,
)
from segviz_trainer.data.headers import Header, check_header, read_volume
from segviz_trainer.data.labels import is_organ, map_label
from segviz_trainer.data.layouts import Case
from segviz_trainer.data.opened import opened
from segviz_trainer.data.preprocess import check_same_grid, read_image
from segviz_trainer.process.errors import BadCase, BadCases

SAMPLED_VOXELS = 10_000
"""Of each case at most, evenly spaced among its organs' voxels: large organs of few cases must not rule."""
_DIGITS = 4


@dataclass(frozen=True)
class MeasuredCase:
    spacing: tuple[float, float, float]
    """Millimetres along R, A, S, as the next."""
    shape: tuple[int, int, int]
    orientation: str
    below_zero: bool
    values: NDArray[np.float64]
    """A sample of what lies inside organs."""
    millilitres: dict[str, float]
    """Of each organ that the case annotates and shows."""


def measure(case: Case, organs: Sequence[str], max_mebibytes: int) -> MeasuredCase:
    """Raises BadCase, as preparing does."""
    with opened(case, max_mebibytes) as files:
        image, label = (check_header(path, max_mebibytes) for path in (files.case.image, files.case.label))
        check_same_grid(files.case, image, label)
        stored = read_image(files.case.image, image)
        mapped = map_label(files.case, read_volume(files.case.label, label), organs)
    inside = stored[is_organ(mapped)].astype(np.float64)
    spacing, shape = _along_ras(image)
    voxel = float(np.prod(spacing)) / 1000
    counts = np.bincount(mapped.ravel(), minlength=len(organs) + 1)
    sizes = {
        organ: float(counts[1 + organs.index(organ)]) * voxel
        for organ in case.organs
        if counts[1 + organs.index(organ)]
    }
    step = -(-inside.size // SAMPLED_VOXELS) or 1
    return MeasuredCase(spacing, shape, image.orientation, bool(stored.min() < 0), inside[::step], sizes)


def _along_ras(header: Header) -> tuple[tuple[float, float, float], tuple[int, int, int]]:
    axes = io_orientation(header.affine)[:, 0].astype(int).tolist()  # type: ignore[no-untyped-call]
    r, a, s = (axes.index(axis) for axis in range(3))
    spacing, shape = header.spacing, header.shape
    return (spacing[r], spacing[a], spacing[s]), (shape[r], shape[a], shape[s])


@dataclass
class _Measured:
    cases: list[MeasuredCase] = field(default_factory=list)
    bad: list[BadCase] = field(default_factory=list)


def fingerprint(
    site: str,
    cases: Sequence[Case],
    organs: Sequence[str],
    max_mebibytes: int,
    on_bad_case: OnBadCase,
    report: Callable[[int, int, str], None] = lambda done, cases, case: None,
) -> Fingerprint:
    """Of cases that train. `report` is told cases done, cases in all and the case's id.

    Raises:
        BadCases: some cannot be used, and `on_bad_case` is `Refuse`.
    """
    found = _Measured()
    for done, case in enumerate(cases, start=1):
        try:
            found.cases.append(measure(case, organs, max_mebibytes))
        except BadCase as error:
            found.bad.append(error)
        report(done, len(cases), case.id)
    if found.bad and on_bad_case is OnBadCase.REFUSE:
        raise BadCases(found.bad, len(cases))
    return summary_of(site, found.cases)


def summary_of(site: str, cases: Sequence[MeasuredCase]) -> Fingerprint:
    """What leaves the site."""
    if len(cases) < FLOOR:
        return Fingerprint(site, len(cases))
    extents = [tuple(np.multiply(case.spacing, case.shape).tolist()) for case in cases]
    orientations = Counter(case.orientation for case in cases)
    sizes: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        for organ, size in case.millilitres.items():
            sizes[organ].append(size)
    return Fingerprint(
        site=site,
        cases=len(cases),
        spacing=_axes([case.spacing for case in cases]),
        shape=_axes([case.shape for case in cases]),
        extent=_axes(extents),
        orientations={name: count for name, count in sorted(orientations.items()) if count >= FLOOR},
        below_zero=all(case.below_zero for case in cases),
        intensities=_intensities(cases),
        organs={
            organ: OrganSize(len(found), _spread(found))
            for organ, found in sorted(sizes.items())
            if len(found) >= FLOOR
        },
    )


def _intensities(cases: Sequence[MeasuredCase]) -> Intensities:
    values = np.concatenate([case.values for case in cases])
    quantiles = np.quantile(values, LEVELS)
    return Intensities(
        voxels=int(values.size),
        mean=_rounded(values.mean()),
        sd=_rounded(values.std()),
        quantiles=tuple(map(_rounded, quantiles)),
    )


def _axes(rows: Iterable[Sequence[float]]) -> Axes:
    r, a, s = (_spread(column) for column in zip(*rows, strict=True))
    return r, a, s


def _spread(values: Sequence[float]) -> Spread:
    p10, p50, p90 = np.quantile(np.asarray(values, np.float64), (0.1, 0.5, 0.9))
    return Spread(_rounded(p10), _rounded(p50), _rounded(p90))


def _rounded(value: float) -> float:
    """Four digits say all that a plan asks for, and no case by its own."""
    return float(f"{value:.{_DIGITS}g}")
