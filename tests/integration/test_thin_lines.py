"""Federations whose updates travel as changes in fewer bits."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from builders.disturbances import Deadly, Killed
from builders.rig import Patience, Rig, algorithm, small_federation
from segviz_aggregator import reasons
from segviz_exchange.contract import codec, keys, thin
from segviz_exchange.contract.choices import AlgorithmName, UpdatePrecision
from segviz_exchange.contract.ledger import encode, read
from segviz_exchange.contract.records import Rejection, Update
from segviz_exchange.contract.site_spec import Privacy
from segviz_exchange.contract.spec import Updates
from segviz_exchange.process.stopping import Stopped

TWO = {"basel": ("liver",), "bern": ("spleen",)}


def federation(
    folder: Path,
    precision: UpdatePrecision | None = UpdatePrecision.INT8_DELTA,
    name: AlgorithmName = AlgorithmName.FED_AVG,
    **changes: object,
) -> Rig:
    updates = None if precision is None else Updates(precision)
    rig = Rig(folder, small_federation(algorithm=algorithm(name), updates=updates), TWO, changes=changes)
    rig.control()
    return rig


def sent(rig: Rig, alias: str, round_: int) -> codec.TensorFile:
    update = read(rig.store, keys.update(alias, round_, 1), Update)
    path = rig.folder / f"sent-{alias}-{round_}"
    path.write_bytes(rig.store.get(keys.site_blob(alias, update.blob)))
    return codec.open_tensors(path)


def whole(rig: Rig, alias: str, round_: int) -> dict[str, codec.Array]:
    record = rig.round(round_ - 1)
    base = rig.folder / "base"
    base.write_bytes(rig.store.get(keys.global_blob(record.blob)))
    thin.decode(sent(rig, alias, round_), codec.open_tensors(base), record.blob, rig.folder / "whole")
    return codec.open_tensors(rig.folder / "whole").read_all()


@pytest.mark.parametrize(
    ("precision", "off"),
    [(UpdatePrecision.INT8_DELTA, 0.02), (UpdatePrecision.FLOAT16_DELTA, 0.001)],
)
def test_the_model_is_the_mean_of_what_was_sent_and_close_to_the_exact_one(
    tmp_path: Path, precision: UpdatePrecision, off: float
) -> None:
    exact, rig = federation(tmp_path / "exact", None), federation(tmp_path / "thin", precision)
    exact.run()
    rig.run()
    updates = [whole(rig, alias, 1) for alias in TWO]
    merged, wanted, start = rig.global_tensors(1), exact.global_tensors(1), rig.global_tensors(0)
    for name, value in merged.items():
        mean = np.mean([update[name].astype(np.float64) for update in updates], axis=0)
        np.testing.assert_array_equal(value, mean.astype(np.float32))
    apart = np.concatenate([(merged[name] - wanted[name]).ravel() for name in sorted(merged)])
    moved = np.concatenate([(wanted[name] - start[name]).ravel() for name in sorted(merged)])
    assert 0 < np.linalg.norm(apart) < off * np.linalg.norm(moved)


def test_left_out_the_bytes_are_those_of_float32(tmp_path: Path) -> None:
    rigs = [federation(tmp_path / str(each), each) for each in (None, UpdatePrecision.FLOAT32)]
    for rig in rigs:
        rig.run()
    assert rigs[0].digests() == rigs[1].digests()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    rig = federation(tmp_path_factory.mktemp("undisturbed"))
    rig.run()
    return rig.digests()


@pytest.mark.parametrize("steps", [4, 11])
def test_a_site_stopped_while_it_trains_goes_on_bit_for_bit(
    tmp_path: Path, undisturbed: dict[str, str], steps: int
) -> None:
    rig = federation(tmp_path)
    sites = {"basel": rig.site("basel", stop=Patience(steps)), "bern": rig.site("bern")}
    with pytest.raises(Stopped):
        rig.drive(sites, rig.aggregator())
    rig.run()
    assert rig.digests() == undisturbed


def test_killed_at_any_write_of_round_2_the_bytes_are_the_same(
    tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    """In round 2 there is something left over of round 1."""
    start = federation(tmp_path / "start")
    start.drive({alias: start.site(alias) for alias in TWO}, start.aggregator(), until_round=1)
    for nth in range(3, 8):
        folder = tmp_path / str(nth)
        shutil.copytree(start.folder, folder)
        rig = Rig.__new__(Rig)
        rig.__dict__.update(start.__dict__, folder=folder, store=type(start.store)(folder / "bucket"))
        with pytest.raises(Killed):
            loop = rig.site("basel", Deadly(rig.store, nth, after=True))
            while True:
                loop.take_turn()
        rig.run()
        assert rig.digests() == undisturbed


def test_an_aggregator_that_starts_again_merges_the_same_bytes(
    tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    rig = federation(tmp_path)
    sites = {alias: rig.site(alias) for alias in TWO}
    for number in (0, 1, 2):
        rig.drive(sites, rig.aggregator(), until_round=number)  # a new one each round, on an empty scratch
    rig.run()
    assert rig.digests() == undisturbed


def test_noise_comes_before_rounding_and_is_not_spent_twice(tmp_path: Path) -> None:
    privacy = Privacy(clip_norm=0.5, delta=1e-5, noise_multiplier=0.01)
    rig = federation(tmp_path, privacy=privacy)
    rig.run()
    assert read(rig.store, keys.update("basel", 2, 1), Update).privacy.releases == 2
    kept = next((rig.folder / "state" / "basel" / "privacy").glob("0002-1.safetensors"))
    noisy, got = codec.open_tensors(kept).read_all(), whole(rig, "basel", 2)
    late = codec.open_tensors(rig.folder / "state" / "basel" / "left-over" / "0002-1.safetensors").read_all()
    before = whole(rig, "basel", 1)
    assert before.keys() == got.keys() == noisy.keys()
    for name in late:
        # What came is the noisy value and what was owed, less what is owed now: both are small.
        assert np.abs(got[name] - noisy[name]).max() < 0.05


@pytest.mark.parametrize("name", [AlgorithmName.FED_BN, AlgorithmName.FED_ADAM, AlgorithmName.LOCAL], ids=str)
def test_every_algorithm_takes_changes(tmp_path: Path, name: AlgorithmName) -> None:
    rig = federation(tmp_path, name=name)
    rig.run()
    assert rig.round(2).participants == ("basel", "bern")


def test_an_update_in_another_precision_is_rejected_with_the_reason(tmp_path: Path) -> None:
    rig = federation(tmp_path)
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator(), until_round=0)
    plain = tmp_path / "plain"
    digest = codec.save(plain, {"representation.x": np.ones(3, np.float32)})
    rig.store.upload(keys.site_blob("basel", digest), plain)
    honest = read(rig.store, keys.update("basel", 0, 1), Update)
    forged = replace(honest, round=1, blob=digest, size_bytes=plain.stat().st_size)
    rig.store.create(keys.update("basel", 1, 1), encode(forged))
    rig.aggregator().step()
    rejection = read(rig.store, keys.rejection("basel", 1, 1), Rejection)
    assert rejection.reason == reasons.INVALID_TENSORS
    assert "travel as Float32, where spec.updates.precision says Int8Delta" in rejection.message
