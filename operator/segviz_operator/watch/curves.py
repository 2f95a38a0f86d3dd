"""A federation's curves as small SVG pictures: no script, no library, no request."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from segviz_operator.progress.dice import organ_dice_by_round
from segviz_operator.progress.durations import duration
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.watch.samples import STAGES, stages_by_round

WIDTH, HEIGHT = 380, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 26
Place = Callable[[float, float], tuple[float, float]]
_MOST_SERIES = 8
"""One more and colours repeat."""


@dataclass(frozen=True)
class Series:
    name: str
    points: tuple[tuple[float, float], ...]
    """Ascending in x."""


@dataclass(frozen=True)
class Chart:
    title: str
    description: str
    unit: str
    """Of Grafana's: percentunit, s, none."""
    series: tuple[Series, ...]
    x: str = "round"
    stacked: bool = False


@dataclass(frozen=True)
class Mark:
    """A thing to draw, in the picture's coordinates."""

    kind: str
    colour: int
    points: str = ""
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 0
    text: str = ""


@dataclass(frozen=True)
class Drawing:
    chart: Chart
    description: str
    """Of what is drawn: a picture has room for so many."""
    marks: tuple[Mark, ...]
    names: tuple[tuple[int, str, str], ...]
    """Colour, name and newest value of each series."""


def charts_of(records: FederationRecords) -> tuple[Chart, ...]:
    """From the records alone: the whole history, also of a run that is over."""
    dice: dict[str, list[tuple[float, float]]] = {}
    for number, by_organ in organ_dice_by_round(records).items():
        for organ, value in by_organ.items():
            dice.setdefault(organ, []).append((number, value))
    losses: dict[str, list[tuple[float, float]]] = {
        alias: [
            (number, each.update.loss)
            for number, each in sorted(facts.deliveries.items())
            if each.update.loss is not None
        ]
        for alias, facts in records.sites.items()
    }
    stages: dict[str, list[tuple[float, float]]] = {stage: [] for stage in STAGES}
    for number, sites in stages_by_round(records).items():
        for stage in STAGES:
            stages[stage].append((number, fmean(each[stage] for each in sites.values())))
    found = (
        Chart("Validation Dice by organ", "Of rounds that every site has scored.", "percentunit", _all(dice)),
        Chart("Training loss by site", "Mean of each update's last epoch.", "none", _all(losses)),
        Chart("Where a round's time goes", "Mean over sites.", "s", _all(stages), stacked=True),
    )
    return tuple(chart for chart in found if chart.series)


def _all(named: dict[str, list[tuple[float, float]]]) -> tuple[Series, ...]:
    return tuple(Series(name, tuple(points)) for name, points in named.items() if points)


def draw(chart: Chart) -> Drawing:
    shown = chart.series[:_MOST_SERIES]
    xs = [x for series in shown for x, _ in series.points]
    low_x, high_x = min(xs), max(xs)
    if low_x == high_x:
        low_x, high_x = low_x - 0.5, high_x + 0.5
    elif chart.stacked:
        low_x, high_x = low_x - 0.6, high_x + 0.6
    low_y, high_y = _bounds(chart, shown)
    scale_x = (WIDTH - _LEFT - _RIGHT) / (high_x - low_x)
    scale_y = (HEIGHT - _TOP - _BOTTOM) / (high_y - low_y)

    def at(x: float, y: float) -> tuple[float, float]:
        return round(_LEFT + (x - low_x) * scale_x, 1), round(HEIGHT - _BOTTOM - (y - low_y) * scale_y, 1)

    marks = [*_axes(chart, low_x, high_x, low_y, high_y, at)]
    if chart.stacked:
        marks += _bars(shown, at, scale_x)
    else:
        for colour, series in enumerate(shown):
            points = [at(x, y) for x, y in series.points]
            marks.append(Mark("line", colour, points=" ".join(f"{x},{y}" for x, y in points)))
            if len(points) <= 60:
                marks += [Mark("dot", colour, x=x, y=y) for x, y in points]
    names = tuple(
        (colour, series.name, shown_value(series.points[-1][1], chart.unit))
        for colour, series in enumerate(shown)
    )
    more = f" The first {len(shown)} of {len(chart.series)}." if len(shown) < len(chart.series) else ""
    return Drawing(chart, chart.description + more, tuple(marks), names)


def _bounds(chart: Chart, shown: Sequence[Series]) -> tuple[float, float]:
    if chart.unit == "percentunit":
        return 0.0, 1.0
    ys = [y for series in shown for _, y in series.points]
    if chart.stacked:
        sums: dict[float, float] = {}
        for series in shown:
            for x, y in series.points:
                sums[x] = sums.get(x, 0.0) + y
        return 0.0, (max(sums.values()) or 1.0) * 1.05
    low, high = min(0.0, *ys, 0.0), max(ys)
    return low, high * 1.05 if high > low else low + 1.0


def _axes(
    chart: Chart, low_x: float, high_x: float, low_y: float, high_y: float, at: Place
) -> Iterable[Mark]:
    for y in _ticks(low_y, high_y, 4):
        _, place = at(low_x, y)
        yield Mark("grid", 0, x=_LEFT, y=place, width=WIDTH - _RIGHT)
        yield Mark("y", 0, x=_LEFT - 6, y=place + 4, text=shown_value(y, chart.unit))
    if chart.x == "round":
        steps = [x for x in _ticks(math.ceil(low_x), math.floor(high_x), 6) if x == int(x)]
        labels = [(x, f"{x:g}") for x in steps]
    else:
        labels = [(x, duration(x) or "0s") for x in _ticks(low_x, high_x, 4)]
    for x, text in labels:
        place, _ = at(x, low_y)
        yield Mark("x", 0, x=place, y=HEIGHT - 8, text=text)


def _bars(shown: Sequence[Series], at: Place, scale_x: float) -> Iterable[Mark]:
    width = min(28.0, max(1.0, scale_x * 0.75))
    below: dict[float, float] = {}
    for colour, series in enumerate(shown):
        for x, y in series.points:
            base = below.get(x, 0.0)
            left, top = at(x, base + y)
            _, bottom = at(x, base)
            below[x] = base + y
            yield Mark(
                "bar", colour, x=round(left - width / 2, 1), y=top, width=width, height=round(bottom - top, 1)
            )


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    span = high - low
    if span <= 0:
        return [low]
    rough = span / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough)
    first = math.ceil(low / step) * step
    return [round(first + index * step, 10) for index in range(int((high - first) / step + 1e-9) + 1)]


def shown_value(value: float, unit: str) -> str:
    if unit == "s":
        return duration(value) if value >= 10 else f"{value:.1f}s".replace(".0s", "s")
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
