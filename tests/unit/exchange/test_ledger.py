"""One listing a look, and no record twice."""

from pathlib import Path

import pytest

from builders.disturbances import Recorded
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import Ledger, encode
from segviz_exchange.contract.records import Lease, Round
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.store import NotFound


def round_(number: int) -> Round:
    return Round(number, 1, "0" * 64, 1, ("basel",))


@pytest.fixture
def store(tmp_path: Path) -> Recorded:
    store = Recorded(FolderStore(tmp_path))
    for number in range(3):
        store.create(keys.round_record(number), encode(round_(number)))
    return store


def test_a_look_is_one_listing_of_each_folder(store: Recorded) -> None:
    ledger = Ledger(store, (keys.GLOBAL, keys.CONTROLS))
    ledger.look()
    ledger.numbered(keys.ROUNDS)
    ledger.find(keys.FINAL, Round)
    ledger.below(keys.REJECTIONS)
    assert store.listed == [keys.GLOBAL, keys.CONTROLS]
    assert store.read == []


def test_a_record_is_read_once(store: Recorded) -> None:
    ledger = Ledger(store, (keys.GLOBAL,))
    for _ in range(3):
        ledger.look()
        assert ledger.newest(keys.ROUNDS, Round) == round_(2)
    assert store.read == [keys.round_record(2)]


def test_what_is_not_listed_is_not_asked_for(store: Recorded) -> None:
    ledger = Ledger(store, (keys.GLOBAL,))
    ledger.look()
    store.create(keys.round_record(3), encode(round_(3)))
    assert ledger.find(keys.round_record(3), Round) is None
    assert store.read == []
    ledger.look()
    assert ledger.find(keys.round_record(3), Round) == round_(3)


def test_outside_its_folders_the_store_is_asked_until_a_record_is_there(store: Recorded) -> None:
    ledger, key = Ledger(store, (keys.GLOBAL,)), keys.lease("basel", 1)
    assert ledger.find(key, Lease) is None
    assert ledger.commit(key, Lease(1)) == Lease(1)
    assert ledger.find(key, Lease) == Lease(1)
    assert store.read == [key]


def test_a_commit_that_came_second_gives_what_is_there(store: Recorded) -> None:
    ledger = Ledger(store, (keys.GLOBAL,))
    other = Round(1, 2, "1" * 64, 1, ("bern",))
    assert ledger.commit(keys.round_record(1), other) == round_(1)
    assert ledger.read(keys.round_record(1), Round) == round_(1)


def test_a_record_that_is_not_there_is_not_found(store: Recorded) -> None:
    with pytest.raises(NotFound):
        Ledger(store, (keys.GLOBAL,)).read(keys.round_record(9), Round)
