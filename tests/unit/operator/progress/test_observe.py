"""A site may write what it likes below its own name; the coordinator reads what it can use, and no more."""

from pathlib import Path

import pytest

from builders.federations import build_control
from builders.synthetic import BASEL, BERN, control_of, update_of
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import MAX_SITE_BYTES, encode
from segviz_exchange.contract.progress import Preflight
from segviz_exchange.contract.records import Control, Record, Round, RoundScores
from segviz_exchange.stores.folder import FolderStore
from segviz_operator.progress.observe import Observer


class Counting(FolderStore):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: list[str] = []

    def get(self, key: str) -> bytes:
        self.read.append(key)
        return super().get(key)


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    store = Counting(tmp_path)
    control = control_of({BASEL: ("liver",), BERN: ("spleen",)}, rounds=2)
    store.put(keys.control(control.number), encode(control))
    return store


def put(store: Counting, key: str, record: Record) -> None:
    store.put(key, encode(record))


def test_rounds_and_attempts_that_nobody_asked_for_are_not_read(store: Counting) -> None:
    for round_ in (1, 3, 999):
        put(store, keys.scores(BASEL, round_), RoundScores(BASEL, round_, {}))
        put(store, keys.update(BASEL, round_, 1), update_of(BASEL, round_))
    put(store, keys.update(BASEL, 1, 999), update_of(BASEL, 1))
    site = Observer(store).read().sites[BASEL]
    assert (set(site.scores), set(site.deliveries), site.newest_update) == ({1}, {1}, 1)
    assert not [key for key in store.read if "0003" in key or "999" in key]


def test_what_is_too_long_is_no_record_and_is_not_fetched(store: Counting) -> None:
    long = b"{" + b" " * MAX_SITE_BYTES
    for key in (keys.scores(BASEL, 1), keys.progress(BASEL)):
        store.put(key, long)
    records = Observer(store).read()
    assert "at most" in records.invalid[0]
    assert records.sites[BASEL].heartbeat is None
    assert not [key for key in store.read if key.startswith(keys.SITES)]


def test_what_is_no_record_is_read_once_and_again_when_it_is_replaced(store: Counting) -> None:
    key = keys.preflight(BASEL, 1)
    store.put(key, b"{}")
    observer = Observer(store)
    for _ in range(3):
        assert len(observer.read().invalid) == 1
    assert store.read.count(key) == 1
    put(store, key, Preflight(1, ()))
    records = observer.read()
    assert (records.invalid, records.sites[BASEL].preflight) == ((), Preflight(1, ()))


FIRST = build_control(1, ("basel", "bern"))
JOINED_BY_GENEVA = build_control(2, ("basel", "bern", "geneva"))
NOBODY_LEFT = build_control(2, ("basel", "bern"), {"basel": "refused", "bern": "refused"})
CARRIERS: dict[str, tuple[Control, set[str]]] = {
    "a site that joined since is none yet": (JOINED_BY_GENEVA, {"basel", "bern"}),
    "a site that left is none any more": (build_control(2, ("bern",)), {"bern"}),
    "a site that was given up is none": (build_control(2, ("basel", "bern"), {"basel": "refused"}), {"bern"}),
    "where all were given up all are": (NOBODY_LEFT, {"basel", "bern"}),
}


@pytest.mark.parametrize(("newest", "carriers"), CARRIERS.values(), ids=CARRIERS)
def test_by_whom_the_open_round_can_close(tmp_path: Path, newest: Control, carriers: set[str]) -> None:
    store = FolderStore(tmp_path)
    for control in (FIRST, newest):
        store.put(keys.control(control.number), encode(control))
    store.put(keys.round_record(0), encode(Round(0, 1, "0" * 64, 1, ("basel",))))
    assert Observer(store).read().carriers == carriers


def test_before_the_first_model_nobody_is_bound_to_stay(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put(keys.control(1), encode(FIRST))
    assert Observer(store).read().carriers == frozenset()
