"""Playing a federation's rounds: what sites would write, and an aggregator driven step by step."""

from pathlib import Path

from builders.synthetic import (
    control_of,
    deliver,
    deliver_initial,
    deliver_round,
    initial_metadata,
    model_of,
    score,
    shared_part,
    write_control,
)
from segviz_aggregator.loop import Aggregator, Step
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import newest_round, read
from segviz_exchange.contract.progress import Progress
from segviz_exchange.contract.records import Control
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.store import Store

ROUNDS = 3
CONTROL = control_of(rounds=ROUNDS)
TIMED = control_of(rounds=ROUNDS, min_sites=2, round_timeout_seconds=3600)


def play_sites(store: Store, control: Control) -> None:
    """What the sites would write next."""
    newest = newest_round(store)
    if newest is None:
        deliver_initial(store, control)
        return
    score(store, control, newest.round, dice=0.5 + 0.1 * (newest.round == 2))
    if newest.round < control.spec.rounds:
        deliver_round(store, control, newest.round + 1)


def finish(aggregator: Aggregator, store: Store, control: Control = CONTROL) -> None:
    for _ in range(100):
        step = aggregator.step()
        if step is Step.DONE:
            return
        if step is Step.WAITING:
            play_sites(store, control)
    raise AssertionError(f"not done: {read(store, keys.AGGREGATOR_PROGRESS, Progress)}")


def until_waiting(aggregator: Aggregator) -> None:
    while aggregator.step() is Step.MOVED:
        pass


def committed(store: Store) -> dict[str, bytes]:
    """Everything that is there for good."""
    return {
        entry.key: store.get(entry.key)
        for entry in store.list("global/")
        if entry.key != keys.AGGREGATOR_PROGRESS
    }


def started(folder: Path, control: Control = CONTROL) -> FolderStore:
    store = FolderStore(folder)
    write_control(store, control)
    return store


def after_round_0(folder: Path, control: Control = CONTROL) -> tuple[FolderStore, Aggregator]:
    store = started(folder / "store", control)
    deliver_initial(store, control)
    aggregator = Aggregator(store, folder / "scratch")
    until_waiting(aggregator)
    return store, aggregator


def deliver_round_but(store: Store, absent: str) -> None:
    for position, site in enumerate(CONTROL.active):
        if site != absent:
            deliver(store, site, 1, shared_part(model_of(CONTROL, seed=100 + position), site, CONTROL))


def deliver_round_0_but(store: Store, absent: str) -> None:
    for site in CONTROL.active:
        if site != absent:
            deliver(store, site, 0, model_of(CONTROL), initial_metadata(CONTROL))
