"""Round 0 and what follows from it, where a site offers a start model that nobody has seeded."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from builders.rig import Rig, small_federation
from builders.rounds import started, until_waiting
from builders.synthetic import (
    BASEL,
    BERN,
    CHUR,
    ORGANS,
    control_of,
    deliver,
    initial_metadata,
    model_of,
    write_control,
)
from segviz_aggregator import reasons
from segviz_aggregator.loop import Aggregator
from segviz_exchange.contract import codec, keys
from segviz_exchange.contract.codec import Array
from segviz_exchange.contract.ledger import commit, find, read
from segviz_exchange.contract.records import Closing, Rejection, Round, Update
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.folder import FolderStore

THREE = control_of()
TWO = control_of({BASEL: ("liver",), BERN: ("spleen",)})
HONEST = model_of(THREE)


def zeros() -> dict[str, Array]:
    return {name: np.zeros_like(value) for name, value in HONEST.items()}


def nudged(by: float) -> dict[str, Array]:
    return {**HONEST, "body.conv": (HONEST["body.conv"] + np.float32(by)).astype(np.float32)}


LIES = {
    "zeros": (zeros, reasons.START_DIFFERS),
    "other shapes": (lambda: model_of(THREE, elements=9), reasons.SCHEMA_DIFFERS),
    "another seed": (lambda: model_of(THREE, seed=1), reasons.START_DIFFERS),
    "a little more than rounding": (lambda: nudged(3e-5), reasons.START_DIFFERS),
    "huge": (lambda: nudged(3e38), reasons.START_DIFFERS),
}


def offer(store: FolderStore, site: str, model: dict[str, Array], attempt: int = 1) -> Update:
    return deliver(store, site, 0, model, initial_metadata(THREE), attempt=attempt)


@pytest.mark.parametrize("liar", [BASEL, BERN, CHUR])
@pytest.mark.parametrize(("lie", "reason"), LIES.values(), ids=LIES)
def test_whoever_comes_first_by_alias_round_0_is_what_most_sites_offer(
    lie, reason: str, liar: str, tmp_path: Path
) -> None:
    control = control_of(min_sites=2, round_timeout_seconds=3600)
    store = started(tmp_path / "store", control)
    for site in ORGANS:
        offer(store, site, lie() if site == liar else HONEST)
    aggregator = Aggregator(store, tmp_path / "scratch")
    until_waiting(aggregator)
    rejection = read(store, keys.rejection(liar, 0, 1), Rejection)
    assert rejection.reason == reason
    for attempt in (2, 3):
        offer(store, liar, lie(), attempt)
        until_waiting(aggregator)
    closing = read(store, keys.closing(0), Closing)
    assert [exclusion.site for exclusion in closing.exclusions] == [liar]
    committed = read(store, keys.round_record(0), Round)
    honest = next(site for site in ORGANS if site != liar)
    assert committed.blob == read(store, keys.update(honest, 0, 1), Update).blob


def test_of_offers_that_differ_by_rounding_the_most_frequent_counts(tmp_path: Path) -> None:
    store = started(tmp_path / "store")
    offer(store, BASEL, nudged(4e-6))
    two = [offer(store, site, HONEST) for site in (BERN, CHUR)]
    until_waiting(Aggregator(store, tmp_path / "scratch"))
    record = read(store, keys.round_record(0), Round)
    assert record.participants == (BASEL, BERN, CHUR)
    assert record.blob == two[0].blob


def test_of_equally_many_the_first_by_alias_counts_and_nobody_is_rejected(tmp_path: Path) -> None:
    """Of two that differ, nobody here can tell who lies; each trainer can (below)."""
    store = FolderStore(tmp_path / "store")
    write_control(store, TWO)
    for site, seed in ((BERN, 0), (BASEL, 1)):
        deliver(store, site, 0, model_of(TWO, seed), initial_metadata(TWO))
    until_waiting(Aggregator(store, tmp_path / "scratch"))
    record = read(store, keys.round_record(0), Round)
    assert record.blob == read(store, keys.update(BASEL, 0, 1), Update).blob
    assert store.list(keys.REJECTIONS) == []


# --- a trainer has a seeded model of its own ----------------------------------------------------------

SITES = {"basel": ("liver",), "bern": ("spleen",)}


def lied_to(folder: Path, change) -> Rig:
    """Basel offers what it has changed."""
    rig = Rig(folder, small_federation(rounds=1), SITES)
    rig.control()
    sites = {alias: rig.site(alias) for alias in SITES}
    sites["basel"].take_turn()
    honest = read(rig.store, keys.update("basel", 0, 1), Update)
    path = folder / "bucket" / keys.site_blob("basel", honest.blob)
    file = codec.open_tensors(path)
    changed = folder / "changed"
    digest = codec.save(changed, change(file.read_all()), file.metadata)
    rig.store.upload(keys.site_blob("basel", digest), changed)
    (folder / "bucket" / keys.update("basel", 0, 1)).unlink()
    lie = structs.replace(honest, blob=digest, size_bytes=changed.stat().st_size)
    commit(rig.store, keys.update("basel", 0, 1), lie)
    sites["bern"].take_turn()
    aggregator = rig.aggregator()
    until_waiting(aggregator)
    assert rig.round(0).blob == digest
    return rig


def test_a_trainer_refuses_a_start_that_its_own_seed_does_not_give_and_names_who_offered_it(
    tmp_path: Path,
) -> None:
    rig = lied_to(tmp_path, lambda model: {name: np.zeros_like(value) for name, value in model.items()})
    with pytest.raises(Refusal, match=r"bern: the start model that basel offered is not the seeded one"):
        rig.site("bern").take_turn()
    assert find(rig.store, keys.update("bern", 1, 1), Update) is None


def test_a_trainer_takes_a_start_that_differs_by_rounding(tmp_path: Path) -> None:
    rig = lied_to(
        tmp_path,
        lambda model: {
            name: (value + np.float32(3e-6)).astype(value.dtype) if value.dtype == np.float32 else value
            for name, value in model.items()
        },
    )
    site = rig.site("bern")
    while site.take_turn():
        pass
    assert find(rig.store, keys.update("bern", 1, 1), Update) is not None
