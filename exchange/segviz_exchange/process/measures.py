"""What a metric is called, what it means and how it is labelled: declared once.

Names end with their unit (`_seconds`, `_bytes`, `_ratio`) or, for what only grows, with `_total`, as
https://prometheus.io/docs/practices/naming/ asks for. Label values come from manifests and from our own
constants, never from what a site writes freely, so that nobody can make series without bound.
"""

from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

FEDERATION_LABELS = ("federation_namespace", "federation")
"""Not `namespace`: a scrape gives each series the label of that name for the pod that it came from."""
SITE_LABELS = (*FEDERATION_LABELS, "site")

MINUTES_TO_DAYS = (60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 86_400.0, 259_200.0)
"""Bounds of what lasts as long as a round: a minute on a phantom, days where CTs are many."""


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Measure:
    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, ascending; the last, infinity, goes without saying."""

    def gauge(self, registry: CollectorRegistry) -> Gauge:
        return Gauge(self.name, self.help, self.labels, registry=registry)

    def counter(self, registry: CollectorRegistry) -> Counter:
        return Counter(self.name, self.help, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        return Histogram(self.name, self.help, self.labels, registry=registry, buckets=self.buckets)


def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Measure:
    return Measure(name, Kind.GAUGE, text, labels)


def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Measure:
    return Measure(name, Kind.COUNTER, text, labels)


def histogram(name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Measure:
    return Measure(name, Kind.HISTOGRAM, text, labels, buckets)
