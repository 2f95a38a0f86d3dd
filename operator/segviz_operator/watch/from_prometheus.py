"""The dashboards' main panels from a Prometheus, for the page without Grafana."""

import base64
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping

from segviz_exchange.process.errors import Refusal
from segviz_operator.dashboards.main import MAIN
from segviz_operator.dashboards.panel import Panel, Shape
from segviz_operator.watch.curves import Chart, Series
from segviz_operator.watch.samples import Watched

_POINTS = 200
_TIMEOUT_SECONDS = 10.0


def filled_in(expr: str, namespace: str, federation: str, range_seconds: float, interval: str = "1m") -> str:
    """A panel's query as Grafana would send it."""
    variables = {
        "$namespace": namespace,
        "$federation": federation,
        "$site": ".*",
        "$__range": f"{max(1, round(range_seconds))}s",
        "$__rate_interval": interval,
    }
    # The longest first: $__range must not be taken for a part of $__rate_interval.
    for name in sorted(variables, key=len, reverse=True):
        expr = expr.replace(name, variables[name])
    return expr


class PrometheusCurves:
    def __init__(self, url: str) -> None:
        self.url, self._headers = _without_userinfo(url.rstrip("/"))
        if urllib.parse.urlsplit(self.url).scheme not in ("http", "https"):
            raise Refusal(
                f"--prometheus {self.url}: is not an http(s) address such as http://127.0.0.1:9090."
            )

    def __call__(self, watched: Watched) -> tuple[Chart, ...]:
        """Since the federation began. Raises OSError where Prometheus does not answer."""
        began = min(watched.records.committed.values(), default=watched.records.now)
        ended = (
            watched.records.now if watched.records.final is None else max(watched.records.committed.values())
        )
        end = min(time.time(), watched.here(ended) + 60)
        span = max(60.0, end - watched.here(began))
        return tuple(self._chart(panel, watched, end - span, end) for panel in MAIN)

    def _chart(self, panel: Panel, watched: Watched, start: float, end: float) -> Chart:
        series = []
        for query in panel.queries:
            expr = filled_in(query.expr, watched.namespace, watched.name, end - start)
            for found in self._ask(expr, start, end):
                points = tuple((at - start, float(value)) for at, value in found["values"] if value != "NaN")
                if points:
                    series.append(Series(_legend(query.legend, found["metric"]), points))
        stacked = panel.shape is Shape.BARS
        return Chart(panel.title, panel.description, panel.unit, tuple(series), "time", stacked)

    def _ask(self, expr: str, start: float, end: float) -> list[dict]:  # type: ignore[type-arg]
        step = max(1.0, (end - start) / _POINTS)
        query = urllib.parse.urlencode({"query": expr, "start": start, "end": end, "step": step})
        url = f"{self.url}/api/v1/query_range?{query}"
        request = urllib.request.Request(url, headers=self._headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            return list(json.load(answer)["data"]["result"])


def _without_userinfo(url: str) -> tuple[str, dict[str, str]]:
    """The address as it may be shown, and the headers that say who asks."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise Refusal("--prometheus: is not an address such as http://127.0.0.1:9090.") from error
    userinfo, at, place = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    said = urllib.parse.unquote(userinfo if ":" in userinfo else f"{userinfo}:")
    basic = base64.b64encode(said.encode()).decode()
    return parts._replace(netloc=place).geturl(), {"Authorization": f"Basic {basic}"}


def _legend(template: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        template = template.replace(f"{{{{{name}}}}}", value)
    return template
