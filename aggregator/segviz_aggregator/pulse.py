"""How fast rounds are merged, for Prometheus."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry

from segviz_exchange.process.measures import FEDERATION_LABELS, counter, gauge, histogram

MERGED = counter(
    "segviz_aggregator_merged_bytes_total",
    "Bytes of the updates that were merged by this process.",
    FEDERATION_LABELS,
)
DURATION = histogram(
    "segviz_aggregator_merge_duration_seconds",
    "How long a merge took, transfers not counted.",
    FEDERATION_LABELS,
    (0.01, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0),
)
SPEED = gauge(
    "segviz_aggregator_merge_bytes_per_second",
    "Bytes of updates per second of the last merge.",
    FEDERATION_LABELS,
)
MEASURES = (MERGED, DURATION, SPEED)


class Pulse:
    def __init__(self, namespace: str, name: str, registry: CollectorRegistry) -> None:
        self._merged = MERGED.counter(registry).labels(namespace, name)
        self._duration = DURATION.histogram(registry).labels(namespace, name)
        # Absent until there was a merge: a speed of 0 would be a lie.
        self._speed, self._labels = SPEED.gauge(registry), (namespace, name)

    @contextmanager
    def merging(self, size_bytes: int) -> Iterator[None]:
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        self._merged.inc(size_bytes)
        self._duration.observe(seconds)
        self._speed.labels(*self._labels).set(size_bytes / seconds)
