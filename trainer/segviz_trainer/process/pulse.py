"""How fast a trainer works now, for Prometheus: counted in the loop, read when somebody asks."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import pynvml
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from segviz_exchange.process.measures import SITE_LABELS, Kind, Measure, counter, gauge

log = logging.getLogger(__name__)

_S = SITE_LABELS
SAMPLES = counter("segviz_trainer_samples_total", "Patches that this process has trained on.", _S)
STEP_SECONDS = counter(
    "segviz_trainer_step_seconds_total", "Time in training steps, waiting for data included.", _S
)
WAIT_SECONDS = counter(
    "segviz_trainer_data_wait_seconds_total", "Time in training steps in which no batch was there.", _S
)
GPU_MEMORY = gauge(
    "segviz_trainer_gpu_memory_used_bytes", "Memory in use, by GPU that this process sees.", (*_S, "gpu")
)
GPU_MEMORY_SIZE = gauge("segviz_trainer_gpu_memory_bytes", "Memory of that GPU.", (*_S, "gpu"))
GPU_USE = gauge(
    "segviz_trainer_gpu_utilization_ratio", "Share of time in which that GPU computed.", (*_S, "gpu")
)
MEASURES = (SAMPLES, STEP_SECONDS, WAIT_SECONDS, GPU_MEMORY, GPU_MEMORY_SIZE, GPU_USE)

_Item = TypeVar("_Item")


@dataclass
class Pulse:
    """Three numbers that a training loop adds to."""

    samples: int = 0
    step_seconds: float = 0.0
    wait_seconds: float = 0.0

    def timed(self, batches: Iterable[_Item]) -> Iterator[_Item]:
        """The same batches. What passes between two is a step; what passes until one is there is waiting."""
        iterator = iter(batches)
        asked = time.perf_counter()
        for batch in iterator:
            came = time.perf_counter()
            self.wait_seconds += came - asked
            yield batch
            done = time.perf_counter()
            self.step_seconds += done - asked
            asked = done


class PulseCollector(Collector):
    def __init__(self, pulse: Pulse, labels: tuple[str, str, str], registry: CollectorRegistry) -> None:
        self._pulse = pulse
        self._labels = labels
        self._gpus = _find_gpus()
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        values = (self._pulse.samples, self._pulse.step_seconds, self._pulse.wait_seconds)
        for measure, value in zip((SAMPLES, STEP_SECONDS, WAIT_SECONDS), values, strict=True):
            yield _family(measure, [(self._labels, value)])
        read = [(*self._labels, str(index)) for index in range(len(self._gpus))]
        memories = [pynvml.nvmlDeviceGetMemoryInfo(gpu) for gpu in self._gpus]
        rates = [pynvml.nvmlDeviceGetUtilizationRates(gpu) for gpu in self._gpus]
        yield _family(GPU_MEMORY, zip(read, (float(each.used) for each in memories), strict=True))
        yield _family(GPU_MEMORY_SIZE, zip(read, (float(each.total) for each in memories), strict=True))
        yield _family(GPU_USE, zip(read, (each.gpu / 100 for each in rates), strict=True))


def _family(measure: Measure, samples: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    kind = CounterMetricFamily if measure.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(measure.name, measure.help, labels=measure.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _find_gpus() -> list[object]:
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    return []
