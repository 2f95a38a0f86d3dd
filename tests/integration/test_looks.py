"""What a round asks of the store: one listing of each folder a look, and nothing read twice."""

from collections import Counter
from pathlib import Path

from builders.disturbances import Recorded
from builders.rig import Rig, small_federation
from builders.rounds import CONTROL, TIMED, deliver_round_but, play_sites, started, until_waiting
from builders.synthetic import CHUR
from segviz_aggregator.loop import Aggregator, Step
from segviz_exchange.contract import keys
from segviz_exchange.contract.records import Control

SITES = {"basel": ("liver",), "bern": ("spleen",)}
A_LOOK = [keys.SITES, keys.CONTROLS, keys.GLOBAL]


def twice(read: list[str]) -> list[str]:
    return sorted(key for key, times in Counter(read).items() if times > 1)


def waiting_aggregator(folder: Path, control: Control = CONTROL) -> tuple[Recorded, Aggregator]:
    """In round 1, for the last of the sites."""
    store = Recorded(started(folder / "store", control))
    play_sites(store, control)
    aggregator = Aggregator(store, folder / "scratch")
    until_waiting(aggregator)
    deliver_round_but(store, CHUR)
    until_waiting(aggregator)
    store.listed, store.read, store.asked_time = [], [], 0
    return store, aggregator


def test_an_aggregator_that_waits_lists_once_and_reads_nothing(tmp_path: Path) -> None:
    store, aggregator = waiting_aggregator(tmp_path)
    assert aggregator.step() is Step.WAITING
    assert (store.listed, store.read, store.asked_time) == (A_LOOK, [], 1)


def test_an_aggregator_reads_no_record_and_no_blob_twice(tmp_path: Path) -> None:
    store = Recorded(started(tmp_path / "store"))
    aggregator = Aggregator(store, tmp_path / "scratch")
    for _ in range(100):
        if (step := aggregator.step()) is Step.DONE:
            break
        if step is Step.WAITING:
            mine = list(store.read)
            play_sites(store.inner, CONTROL)
            assert store.read == mine
    assert step is Step.DONE
    assert twice(store.read) == []


def test_whoever_waits_for_a_deadline_knows_when_it_is(tmp_path: Path) -> None:
    _, untimed = waiting_aggregator(tmp_path / "untimed")
    _, timed = waiting_aggregator(tmp_path / "timed", TIMED)
    assert untimed.due_seconds is None
    assert timed.due_seconds is not None
    assert 3000 < timed.due_seconds <= 3600


def test_a_site_that_waits_lists_once_and_reads_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(), SITES)
    rig.control()
    store = Recorded(rig.store)
    site, other = rig.site("basel", store), rig.site("bern")
    rig.drive({"basel": site, "bern": other}, rig.aggregator(), until_round=0)
    while site.take_turn():
        pass
    site.me.heartbeat.interval_seconds = 3600.0  # it looks at its lease when it says that it lives
    store.listed, store.read = [], []
    for _ in range(3):
        assert not site.take_turn()
    assert (store.listed, store.read) == ([keys.GLOBAL] * 3, [])


def test_a_site_reads_no_record_and_no_model_twice(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(), SITES)
    rig.control()
    store = Recorded(rig.store)
    sites = {"basel": rig.site("basel", store), "bern": rig.site("bern")}
    rig.drive(sites, rig.aggregator())
    # What is not there yet (its own scores and updates) is asked for once before it is written.
    assert twice(store.read) == []
