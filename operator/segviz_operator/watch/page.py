"""A read-only page of how federations stand, for where there is no Grafana.

One HTML document: no build step, nothing fetched from elsewhere; without JavaScript it loads anew.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from segviz_exchange.process.http_pages import NOT_FOUND, Answer
from segviz_operator.plan.phase import BROKEN, BUSY, HELD_UP, FederationPhase, SitePhase
from segviz_operator.progress.crowd import MANY, counted, worst_first
from segviz_operator.progress.durations import duration
from segviz_operator.watch.curves import HEIGHT, WIDTH, Chart, charts_of, draw
from segviz_operator.watch.samples import Watched

_TONES: dict[str, str] = {
    **dict.fromkeys((*BUSY, FederationPhase.EVALUATING), "busy"),
    **dict.fromkeys((FederationPhase.COMPLETE, SitePhase.DONE), "good"),
    **dict.fromkeys(BROKEN, "bad"),
    **dict.fromkeys(HELD_UP, "warn"),
}
_TOLD = (*BROKEN, *HELD_UP, SitePhase.WAITING, SitePhase.PREPARING)
"""Phases whose message says more than the table."""
_MOST_INCIDENTS = 20

_templates = Environment(
    loader=PackageLoader("segviz_operator.watch"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
)


@dataclass(frozen=True)
class Incident:
    round: int
    site: str
    what: str
    why: str


@dataclass(frozen=True)
class Tested:
    site: str
    set: str
    variant: str
    dice: Mapping[str, float]


Curves = Callable[[Watched], tuple[Chart, ...]]


class StatusPage:
    """Shows what `watched` returns now; `curves` is where the pictures come from, records by default."""

    def __init__(
        self,
        watched: Callable[[], Sequence[Watched]],
        curves: Curves = lambda each: charts_of(each.records),
        source: str = "",
    ) -> None:
        self._watched = watched
        self._curves = curves
        self._source = source

    def __call__(self, query: Mapping[str, str]) -> Answer:
        others = self._watched()
        wanted = query.get("federation")
        chosen = [each for each in others if wanted in (None, "/".join(each.key))]
        if wanted is not None and not chosen:
            return NOT_FOUND
        view = chosen[0] if wanted is not None or len(others) == 1 else None
        nonce = secrets.token_urlsafe(16)
        part = query.get("part") == "main"
        body = _templates.get_template("part.html.j2" if part else "page.html.j2").render(
            nonce=nonce,
            title="SegViz" if view is None else f"{view.name}: {view.status.phase}",
            view=None if view is None else _View(view),
            sites=[] if view is None else worst_first(view.status.sites, lambda site: site.phase),
            counted="" if view is None else counted(site.phase for site in view.status.sites),
            many=MANY,
            others=[_View(each) for each in others],
            incidents=[] if view is None else [*incidents(view)][:_MOST_INCIDENTS],
            pictures=[] if view is None else [draw(chart) for chart in self._curves(view) if chart.series],
            evaluation=[] if view is None else [*evaluation(view)],
            organs=() if view is None or view.records.control is None else view.records.control.organs,
            width=WIDTH,
            height=HEIGHT,
            now=datetime.now(UTC),
            source=self._source,
            told=_TOLD,
            tone=lambda phase: _TONES.get(phase, "dim"),
            duration=duration,
        )
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
        return Answer(body.encode(), headers=headers)


class _View:
    """What the templates read of a federation."""

    def __init__(self, watched: Watched) -> None:
        self.key = "/".join(watched.key)
        self.status = watched.status


def incidents(watched: Watched) -> Iterator[Incident]:
    """Newest first."""
    records = watched.records
    found = [Incident(each.round, "", each.reason, each.message) for each in records.failures]
    for alias, facts in records.sites.items():
        found += [
            Incident(each.round, alias, f"update refused: {each.reason}", each.message)
            for each in facts.rejections
        ]
    for closing in records.closings.values():
        found += [
            Incident(closing.round, each.site, f"not in the round: {each.reason}", each.message)
            for each in closing.exclusions
        ]
    yield from sorted(found, key=lambda each: -each.round)


def evaluation(watched: Watched) -> Iterator[Tested]:
    for alias, facts in watched.records.sites.items():
        outcome = facts.external or facts.outcome
        for variant, scores in sorted(outcome.variants.items()) if outcome else ():
            dice = {organ: each.mean for organ, each in scores.test.items()}
            yield Tested(alias, "external" if facts.external else "test", variant, dice)
