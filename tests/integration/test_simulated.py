"""Whole federations in one process, over a store that misbehaves (`make simulate` runs thousands)."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from simulator.__main__ import differs
from simulator.bugs import BlobLast
from simulator.schedule import draw
from simulator.simulation import simulate

SCHEDULES = 100
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("first", range(0, SCHEDULES, 25))
def test_whatever_the_store_and_the_processes_do_the_federation_ends_as_it_should(first: int) -> None:
    made: dict[bytes, tuple[int, tuple[str, ...]]] = {}
    faults: Counter[str] = Counter()
    for seed in range(first, first + 25):
        result = simulate(draw(seed))
        wrong = [*result.wrong, *differs(result, made)]
        assert not wrong, f"{wrong}\n" + "\n".join((*result.last, f"make simulate SEED={seed}"))
        faults.update(result.faults)
    assert {"crash", "lost", "late", "repeated", "409", "503", "lists late"} <= faults.keys()


@pytest.mark.parametrize("name", ["trainer", "aggregator"])
def test_a_record_that_comes_before_its_blob_is_found(name: str) -> None:
    def wrong_way_round(store: Any, of: str) -> Any:
        return BlobLast(store) if of.startswith(name) else store

    found = [simulate(draw(seed), wrong_way_round).wrong for seed in range(3)]
    assert all(any("that is not there" in each for each in wrong) for wrong in found)


@pytest.mark.parametrize("hash_seed", ["1"])
def test_a_seed_repeats_what_happened(hash_seed: str) -> None:
    """In another process too, which goes through sets in another order."""
    command = [sys.executable, "-m", "simulator", "--seed", "4"]
    environment = {"PYTHONPATH": str(TESTS), "PYTHONHASHSEED": hash_seed, "PATH": ""}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert f"history {simulate(draw(4)).digest[:16]}" in told
