"""The viewer's part of a page: one fragment a case, and style and script once.

A page's Content-Security-Policy then allows `script-src` of `script_source()` and `img-src data:`.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from segviz_trainer.viewer.case import THROUGH, Modality, ViewedCase
from segviz_trainer.viewer.drawn import Drawn
from segviz_trainer.viewer.packing import fit
from segviz_trainer.viewer.stills import stills

_COLOURS = (
    *("#56b4e9", "#f5a623", "#2fd39f", "#f0e442", "#ff7a50", "#ee8fc6", "#7f9cff", "#b4e05a"),
    *("#c58cff", "#5fe0e6", "#ffb3a1", "#d0b48a", "#ff5f87", "#9fd8b0", "#c9c9ff", "#e8e8e8"),
)
"""Light, since they lie on dark pictures in both themes; the first eight after Okabe and Ito."""


def viewer_assets() -> Markup:
    """Style and script, once in a page and after its last case."""
    # Both are files of ours, and neither holds a closing tag.
    return Markup("<style>{}</style>\n<script>{}</script>").format(
        Markup(_text("viewer.css")), Markup(_text("viewer.js"))
    )


def script_source() -> str:
    """The script, for `script-src` of a page's Content-Security-Policy."""
    digest = hashlib.sha256(_text("viewer.js").encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def case_fragment(case: ViewedCase) -> Markup:
    """At most 3 MB; what was cut, averaged or rounded for that is said below the pictures."""
    drawn, packed = fit(case)
    organs = [
        {
            "name": name,
            "colour": _COLOURS[case.organs.index(name) % len(_COLOURS)],
        }
        for name in case.shown
    ]
    windows = case.windows()
    about = {
        "shape": drawn.shape,
        "spacing": drawn.spacing,
        "first": drawn.box.first,
        "factors": drawn.factors,
        "whole": case.image.shape,
        "positions": _positions(case, drawn),
        "low": drawn.low,
        "step": drawn.step,
        "unit": _unit(case),
        "windows": [{"name": each.name, "low": each.low, "high": each.high} for each in windows],
        "organs": len(organs),
        "jump": drawn.jump,
    }
    html = _template().render(
        title=case.title,
        organs=organs,
        stills=[
            (still, _slice_name(case, drawn, still.plane)) for still in stills(drawn, len(organs), windows[0])
        ],
        windows=windows,
        about=about,
        unit=_unit(case),
        disagrees=drawn.disagrees,
        notes=_notes(case, drawn),
        voxels=base64.b64encode(packed).decode(),
    )
    return Markup(html)  # rendered by a template that escapes


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    return environment.from_string(_text("viewer.html.j2"))


@cache
def _text(name: str) -> str:
    return (files("segviz_trainer.viewer") / name).read_text(encoding="utf-8")


def _unit(case: ViewedCase) -> str:
    return "HU" if case.modality is Modality.CT else ""


def _positions(case: ViewedCase, drawn: Drawn) -> list[float]:
    """mm of the first drawn voxel's centre, by axis."""
    origin = case.origin or (0.0, 0.0, 0.0)
    return [
        origin[axis] + case.spacing[axis] * (drawn.box.first[axis] + (drawn.factors[axis] - 1) / 2)
        for axis in range(3)
    ]


def _slice_name(case: ViewedCase, drawn: Drawn, plane: str) -> str:
    axis = THROUGH[plane]
    first = drawn.box.first[axis] + drawn.jump[axis] * drawn.factors[axis] + 1
    last = min(first + drawn.factors[axis] - 1, case.image.shape[axis])
    number = f"slice {first}" if first == last else f"slices {first}–{last}"
    return f"{plane}, {number} of {case.image.shape[axis]}"


def _notes(case: ViewedCase, drawn: Drawn) -> list[str]:
    """What a reader has to know of how this was drawn, as sentences."""
    size = f"{_by(case.image.shape)} voxels of {_by(case.spacing)} mm"
    if drawn.box.shape != case.image.shape:
        size += f", cut for this page to {_by(drawn.box.shape)}: {drawn.box.keeps}"
    notes = [size]
    if max(drawn.factors) > 1:
        notes.append(f"Averaged to {_by(drawn.spacing)} mm for this page; scores are of the image itself")
    top = drawn.low + drawn.step * float(drawn.levels.max())
    unit = f" {_unit(case)}" if _unit(case) else ""
    notes.append(f"Values {_number(drawn.low)} to {_number(top)}{unit} in steps of {_number(drawn.step)}")
    missing = [each for each in case.shown if each not in case.truth]
    if missing:
        notes.append(f"Not annotated in this case: {', '.join(missing)}")
    unpredicted = [each for each in case.shown if each not in case.prediction]
    if unpredicted:
        notes.append(f"Not predicted: {', '.join(unpredicted)}")
    if case.origin is None:
        notes.append("Positions are counted from the first voxel")
    return notes


def _by(values: tuple[float, ...]) -> str:
    return " × ".join(map(_number, values))


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")
