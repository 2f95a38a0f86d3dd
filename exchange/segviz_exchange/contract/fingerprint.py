"""What a site tells of its cases, so that one plan may fit all sites: its fingerprint.

Numbers over many cases, rounded, and nothing of fewer cases than the floor. A site sends it only where its
own manifest says `fingerprint: Summary`.
"""

from typing import Annotated

import msgspec

from segviz_exchange.contract.records import MAX_ORGANS, Count, Organ, Record, Word

FLOOR = 5
"""Of fewer cases nothing is told: their median is nearly one of them."""

LEVELS = (0.005, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.995)
"""Of the quantiles of intensities."""

# A hostile site must not make a plan that nobody can carry out: bounds beyond any image.
Positive = Annotated[float, msgspec.Meta(ge=1e-6, le=1e6)]
Value = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]


class Spread(Record, frozen=True):
    """Of one number over cases: three quantiles, never the least or the greatest."""

    p10: Positive
    p50: Positive
    p90: Positive


Axes = tuple[Spread, Spread, Spread]
"""Along R, A, S."""


class Intensities(Record, frozen=True):
    """Of the voxels inside organs, as stored; from as many voxels of each case."""

    voxels: Count
    mean: Value
    sd: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
    quantiles: Annotated[tuple[Value, ...], msgspec.Meta(min_length=len(LEVELS), max_length=len(LEVELS))]
    """At `LEVELS`, ascending."""


class OrganSize(Record, frozen=True):
    cases: Count
    millilitres: Spread


class Fingerprint(Record, frozen=True):
    """Of a site's training cases; all but `cases` is left out where these are fewer than the floor."""

    site: Word
    cases: Count
    spacing: Axes | None = None
    """Millimetres."""
    shape: Axes | None = None
    """Voxels."""
    extent: Axes | None = None
    """Millimetres."""
    orientations: Annotated[dict[Word, Count], msgspec.Meta(max_length=48)] = msgspec.field(
        default_factory=dict
    )
    """Cases by the axes of their files, such as LPS; those of fewer than the floor are not counted."""
    below_zero: bool | None = None
    """Whether every image has values below 0, as a CT in Hounsfield units has."""
    intensities: Intensities | None = None
    organs: Annotated[dict[Organ, OrganSize], msgspec.Meta(max_length=MAX_ORGANS)] = msgspec.field(
        default_factory=dict
    )
    """Those that as many cases as the floor show."""
