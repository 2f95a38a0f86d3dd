"""Charts as inline SVG, coloured by the page's style sheet, so that they follow its light and dark themes.

360 units wide: on a phone a unit is a pixel, and text stays readable. Not by matplotlib, which writes its
colours into every shape, so that one of the two themes would get black text on black.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape

WIDTH = 360
_LABEL = 118
_ROW = 19
_COLOURS = 7
_DASHES = ("", "6 3", "2 2", "8 2 2 2")


def series_style(index: int) -> Markup:
    """A colour and a dash for the index-th series: told apart without seeing colours."""
    colour, dash = index % _COLOURS, _DASHES[index % len(_DASHES)]
    dashed = Markup(' stroke-dasharray="{}"').format(dash) if dash else Markup("")
    return Markup('class="s{}"{}').format(colour, dashed)


def box_plot(title: str, groups: Mapping[str, Sequence[float]], unit: str, top: float | None) -> Markup:
    """A box a method: quartiles, whiskers to the last value within 1.5 interquartile ranges, all values dots.

    The axis ends at a round number above the largest value, but not beyond `top`.
    """
    values = [value for group in groups.values() for value in group]
    low, high = _span(values, top)
    height = _ROW * len(groups) + 44
    plot = _Scale(low, high, _LABEL, WIDTH - 16)
    parts = [_title(title), *_grid(plot, 22, height - 22, unit)]
    for row, (name, group) in enumerate(groups.items()):
        y = 22 + _ROW * row + _ROW / 2
        parts.append(_text(_LABEL - 6, y + 4, _shortened(name), "end"))
        parts += _box(sorted(group), y, plot)
    return _svg(height, f"{title}: box plot of each method's cases", parts)


def line_chart(
    title: str,
    series: Mapping[str, Sequence[tuple[int, float]]],
    styles: Mapping[str, Markup],
    what: str,
    top: float | None,
    marked: int | None = None,
    along: str = "round",
) -> Markup:
    """Values by round, or by what `along` says; `marked` is a place to point at, `top` as for `box_plot`."""
    points = [point for line in series.values() for point in line]
    low, high = _span([value for _, value in points], top)
    last = max((round_ for round_, _ in points), default=1)
    height = 224
    across = _Scale(0, max(1, last), 34, WIDTH - 12)
    up = _Scale(low, high, height - 40, 24)
    parts = [_title(title)]
    for tick in _ticks(low, high):
        parts.append(_line(34, up(tick), WIDTH - 10, up(tick), "grid"))
        parts.append(_text(30, up(tick) + 4, f"{tick:g}", "end"))
    for tick in _ticks(0, max(1, last)):
        if tick == int(tick):
            parts.append(_text(across(tick), height - 24, f"{tick:g}", "middle"))
    parts.append(_text((34 + WIDTH - 10) / 2, height - 8, along, "middle"))
    if marked is not None:
        parts.append(_line(across(marked), 24, across(marked), height - 40, "chosen"))
    for name, line in series.items():
        path = " ".join(f"{across(round_):.1f},{up(value):.1f}" for round_, value in line)
        parts.append(
            Markup('<polyline {} fill="none" points="{}"><title>{}</title></polyline>').format(
                styles[name], path, name
            )
        )
        if len(line) == 1:  # a line of one point cannot be seen
            (round_, value) = line[0]
            parts.append(
                Markup('<circle {} fill="none" cx="{:.1f}" cy="{:.1f}" r="2"/>').format(
                    styles[name], across(round_), up(value)
                )
            )
    return _svg(height, f"{title}: {what} by {along}", parts)


class _Scale:
    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def _box(values: Sequence[float], y: float, plot: _Scale) -> list[Markup]:
    if not values:
        return [_text(plot.start + 4, y + 4, "-", "start")]
    low, middle, high = quartiles(list(values))
    reach = 1.5 * (high - low)
    inside = [value for value in values if low - reach <= value <= high + reach] or list(values)
    half = 5
    parts = [
        Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="1.3"/>').format(plot(value), _jitter(i, y))
        for i, value in enumerate(values)
    ]
    parts += [
        _line(plot(inside[0]), y, plot(low), y, "whisker"),
        _line(plot(high), y, plot(inside[-1]), y, "whisker"),
        Markup('<rect class="box" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}"/>').format(
            plot(low), y - half, max(1.0, plot(high) - plot(low)), 2 * half
        ),
        _line(plot(middle), y - half, plot(middle), y + half, "median"),
    ]
    return parts


def _jitter(index: int, y: float) -> float:
    """Values that are alike would hide each other; always the same, so that a report is too."""
    return y + 8 * ((index * 0.618034) % 1.0) - 4


def _grid(plot: _Scale, top: float, bottom: float, unit: str) -> list[Markup]:
    parts = []
    for tick in _ticks(plot.low, plot.high):
        parts.append(_line(plot(tick), top, plot(tick), bottom, "grid"))
        parts.append(_text(plot(tick), bottom + 14, f"{tick:g}", "middle"))
    if unit:
        parts.append(_text(0, bottom + 14, f"in {unit}", "start"))
    return parts


def _span(values: Sequence[float], top: float | None) -> tuple[float, float]:
    """From a round number below the values to one above them."""
    if not values:
        return 0.0, top or 1.0
    low, high = min(values), max(values)
    step = _step(low, max(high, low + 1e-6))
    start = math.floor(low / step) * step
    end = math.ceil(high / step - 1e-9) * step
    end = end if top is None else min(end, top)
    return start, max(end, start + step)


def _step(low: float, high: float) -> float:
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)


def _ticks(low: float, high: float) -> list[float]:
    step = _step(low, high)
    first = math.ceil(low / step - 1e-9)
    return [round(step * number, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def _shortened(name: str) -> str:
    return name if len(name) <= 20 else name[:19] + "…"


def _title(text: str) -> Markup:
    return Markup('<text class="title" x="0" y="12">{}</text>').format(text)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        class_, x1, y1, x2, y2
    )


def _svg(height: float, label: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {:.0f}">{}</svg>').format(
        escape(label), WIDTH, height, Markup("").join(parts)
    )
