"""Five hundred rounds of eight sites: what each role keeps must not grow with them."""

import gc
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from builders.rig import site_spec
from segviz_exchange.contract import keys
from simulator.connection import Weather
from simulator.schedule import Schedule, hostile
from simulator.simulation import Simulation

ROUNDS, SITES = 500, 8
ROLES = SITES + 2
"""The sites, the aggregator and the operator: all in this process."""
WARM = 100
"""Rounds after which caches are as full as they get."""
MOST_BYTES_A_ROUND = 20_000
"""Of each role."""
MOST_MODELS = 16
"""Round 0, two of the newest, the best, and what comes between two sweeps."""


def long_schedule(rounds: int) -> Schedule:
    short = hostile((), 3)
    organs = [f"organ-{number}" for number in range(SITES)]
    return Schedule(
        **{
            **{name: getattr(short, name) for name in short.__dataclass_fields__},
            "spec": replace(short.spec, rounds=rounds),
            "sites": {f"site-{number}": site_spec((organ,)) for number, organ in enumerate(organs)},
            "weather": Weather(latency_seconds=0.01),
            "liar": None,
        }
    )


@dataclass
class Meter:
    """Looks at this process whenever a round has been committed."""

    simulation: Simulation
    bytes_at: dict[int, int] = field(default_factory=dict)
    files_at: dict[int, int] = field(default_factory=dict)
    most_blobs: int = 0

    def watch(self, who: str, key: str, data: bytes) -> None:
        if (round_ := keys.number_below(keys.ROUNDS, key)) is None:
            return
        bucket = self.simulation.bucket
        blobs = [name for name in bucket.names() if "/blobs/" in name]
        self.most_blobs = max(self.most_blobs, len(blobs))
        # The auditor keeps every blob to hold records to, as nobody else does.
        self.simulation.auditor.forget_but(blobs)
        if round_ % 50 == 0 or round_ < 10:
            gc.collect()
            held = sum(len(bucket.get(name)) for name in bucket.names())
            process = psutil.Process()
            self.bytes_at[round_] = process.memory_info().rss - held
            self.files_at[round_] = process.num_fds()


def soak(rounds: int, folder: Path) -> Meter:
    simulation = Simulation(long_schedule(rounds), folder)
    meter = Meter(simulation)
    simulation.bucket.watchers.append(meter.watch)
    result = simulation.run()
    assert not result.wrong, result.wrong
    return meter


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_five_hundred_rounds_take_no_more_memory_files_or_room_than_a_hundred() -> None:
    with tempfile.TemporaryDirectory() as folder:
        meter = soak(ROUNDS, Path(folder))
    grown = (meter.bytes_at[ROUNDS] - meter.bytes_at[WARM]) / (ROUNDS - WARM) / ROLES
    assert grown <= MOST_BYTES_A_ROUND, meter.bytes_at
    assert meter.files_at[ROUNDS] <= meter.files_at[WARM], meter.files_at
    assert meter.most_blobs <= MOST_MODELS + 4 * SITES, "retention bounds what lies in the bucket"


def test_a_short_soak_is_measured(tmp_path: Path) -> None:
    meter = soak(4, tmp_path)
    assert set(meter.bytes_at) == {0, 1, 2, 3, 4}
    assert len(set(meter.files_at.values())) <= 2
