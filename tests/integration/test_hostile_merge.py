"""A site that changes its own blob after the round was closed with it, and before anybody has merged it."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from builders.disturbances import Around, Deadly, Killed, Shifted
from builders.rounds import TIMED, after_round_0, deliver_round_but, finish, started, until_waiting
from builders.synthetic import BASEL, BERN, CHUR, deliver_initial, deliver_round
from segviz_aggregator import reasons
from segviz_aggregator.loop import Aggregator
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import read
from segviz_exchange.contract.records import Closing, Final, Rejection, Round
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.store import Store, StoreError


def closed(folder: Path, round_: int = 1) -> tuple[FolderStore, Path]:
    """A round that all three are in, before its merge; bern's blob in it."""
    if round_:
        store, _ = after_round_0(folder, TIMED)
        deliver_round(store, TIMED, 1)
    else:
        store = started(folder / "store", TIMED)
        deliver_initial(store, TIMED)
    with pytest.raises(Killed, match=keys.closing(round_)):
        until_waiting(Aggregator(Deadly(store, 1, after=True), folder / "scratch"))
    bern = read(store, keys.closing(round_), Closing).participants[1]
    return store, store.root / keys.site_blob(BERN, bern.blob)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "other bytes": (lambda blob: blob.write_bytes(blob.read_bytes()[:-1] + b"\1"), reasons.BLOB_CORRUPT),
    "nothing": (lambda blob: blob.write_bytes(b""), reasons.BLOB_CORRUPT),
    "gigabytes": (lambda blob: blob.open("r+b").truncate(8 << 30), reasons.BLOB_CORRUPT),
    "no object": (Path.unlink, reasons.BLOB_MISSING),
}


@pytest.mark.parametrize("change", CHANGES)
def test_who_changes_what_it_has_delivered_is_left_out_by_name_and_the_others_go_on(
    change: str, tmp_path: Path
) -> None:
    store, blob = closed(tmp_path)
    spoil, reason = CHANGES[change]
    spoil(blob)
    until_waiting(Aggregator(store, tmp_path / "scratch"))
    merged = read(store, keys.round_record(1), Round)
    assert merged.participants == (BASEL, CHUR)
    rejection = read(store, keys.rejection(BERN, 1, 1), Rejection)
    assert rejection.reason == reason
    assert "after the round was closed" in rejection.message
    assert merged.blob == without_bern(tmp_path / "without").blob
    finish(Aggregator(store, tmp_path / "scratch"), store, TIMED)
    assert read(store, keys.FINAL, Final).round in (1, 2, 3)


def without_bern(folder: Path) -> Round:
    """The round as it is where bern delivers nothing."""
    store, _ = after_round_0(folder, TIMED)
    deliver_round_but(store, BERN)
    shifted = Shifted(store)
    shifted.later = timedelta(days=1)
    until_waiting(Aggregator(shifted, folder / "scratch"))
    return read(store, keys.round_record(1), Round)


def test_who_puts_it_back_in_time_for_a_second_merge_stays_out(tmp_path: Path) -> None:
    store, blob = closed(tmp_path)
    good = blob.read_bytes()
    blob.unlink()
    with pytest.raises(Killed, match=keys.rejection(BERN, 1, 1)):
        until_waiting(Aggregator(Deadly(store, 2, after=True), tmp_path / "scratch"))
    blob.write_bytes(good)
    until_waiting(Aggregator(store, tmp_path / "scratch"))
    assert read(store, keys.round_record(1), Round).participants == (BASEL, CHUR)


class Encrypted(Around):
    """A store in which one object can be read by nobody but its writer."""

    def __init__(self, inner: Store, key: str) -> None:
        super().__init__(inner)
        self.key = key

    def open(self, key: str):
        if key == self.key:
            raise StoreError("400: InvalidRequest: the object was stored using a form of encryption")
        return super().open(key)


def test_who_encrypts_it_for_itself_is_left_out(tmp_path: Path) -> None:
    store, blob = closed(tmp_path)
    until_waiting(Aggregator(Encrypted(store, blob.relative_to(store.root).as_posix()), tmp_path / "scratch"))
    assert read(store, keys.round_record(1), Round).participants == (BASEL, CHUR)
    assert "encryption" in read(store, keys.rejection(BERN, 1, 1), Rejection).message


def test_a_start_that_others_have_offered_too_needs_no_blob_of_its_own(tmp_path: Path) -> None:
    store, blob = closed(tmp_path, round_=0)
    blob.unlink()
    until_waiting(Aggregator(store, tmp_path / "scratch"))
    assert read(store, keys.round_record(0), Round).participants == (BASEL, BERN, CHUR)
