"""What Prometheus reads of all federations, and of the operator itself.

A federation's lines are written when it was looked at, not when somebody asks: an answer for a thousand
federations is then joined text. Its series go with it.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest

from segviz_exchange.process.http_pages import METRICS_TYPE, Answer
from segviz_exchange.process.measures import Kind, Measure
from segviz_exchange.stores.measured import MeasuredStore, StoreMetrics
from segviz_exchange.stores.store import Store
from segviz_operator.watch import measures as m
from segviz_operator.watch.samples import Observations, Sample, Watched, samples_of


class FederationMetrics:
    """The newest values of each federation, as text."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: dict[tuple[str, str], dict[str, bytes]] = {}
        """By federation (namespace, name) and metric."""
        self._watched: dict[tuple[str, str], Watched] = {}

    def show(self, watched: Watched) -> None:
        texts: dict[str, list[str]] = {}
        federation = watched.key
        for sample in samples_of(watched):
            lines = _lines(sample, federation)
            texts.setdefault(sample.measure.name, []).extend(lines)
        joined = {name: ("\n".join(lines) + "\n").encode() for name, lines in texts.items()}
        with self._lock:
            self._texts[federation] = joined
            self._watched[federation] = watched

    def forget(self, namespace: str, name: str) -> None:
        with self._lock:
            self._texts.pop((namespace, name), None)
            self._watched.pop((namespace, name), None)

    def watched(self) -> tuple[Watched, ...]:
        with self._lock:
            return tuple(self._watched[key] for key in sorted(self._watched))

    def text(self) -> bytes:
        with self._lock:
            texts = [self._texts[key] for key in sorted(self._texts)]
        parts: list[bytes] = []
        for measure in m.FEDERATION_MEASURES:
            found = [text for each in texts if (text := each.get(measure.name))]
            if found:
                help_ = _escape_help(measure.help)
                head = f"# HELP {measure.name} {help_}\n# TYPE {measure.name} {measure.kind}\n"
                parts.append(head.encode())
                parts += found
        return b"".join(parts)

    def __len__(self) -> int:
        return len(self._texts)


class OperatorMetrics:
    """Everything that a process which watches federations exposes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.federations = FederationMetrics()
        self._store = StoreMetrics(self.registry)
        self._durations = m.RECONCILE_DURATION.histogram(self.registry)
        self._errors = m.RECONCILE_ERRORS.counter(self.registry)
        self._errors.labels("StoreError")
        m.FEDERATIONS.gauge(self.registry).set_function(lambda: len(self.federations))
        m.BUILD_INFO.gauge(self.registry).labels(version("segviz-federation")).set(1)

    def watching(self, watches: Callable[[], bool]) -> None:
        m.WATCHING.gauge(self.registry).set_function(lambda: float(watches()))

    def measured(self, store: Store) -> Store:
        """The same store, its requests counted and timed."""
        return MeasuredStore(store, self._store)

    @contextmanager
    def reconciling(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        except Exception as error:
            self._errors.labels(type(error).__name__).inc()
            raise
        finally:
            self._durations.observe(time.monotonic() - began)

    def page(self, _: Mapping[str, str] | None = None) -> Answer:
        return Answer(generate_latest(self.registry) + self.federations.text(), METRICS_TYPE)


def _lines(sample: Sample | Observations, federation: tuple[str, str]) -> Iterator[str]:
    measure = sample.measure
    labels = _labels(measure, (*federation, *sample.labels))
    if isinstance(sample, Sample):
        yield f"{measure.name}{{{labels}}} {float(sample.value)!r}"
        return
    assert measure.kind is Kind.HISTOGRAM, "only a histogram has observations"
    for bound in (*measure.buckets, float("inf")):
        count = sum(value <= bound for value in sample.values)
        shown = "+Inf" if bound == float("inf") else repr(bound)
        yield f'{measure.name}_bucket{{{labels},le="{shown}"}} {float(count)}'
    yield f"{measure.name}_count{{{labels}}} {float(len(sample.values))}"
    yield f"{measure.name}_sum{{{labels}}} {float(sum(sample.values))!r}"


def _labels(measure: Measure, values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in zip(measure.labels, values, strict=True))


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
