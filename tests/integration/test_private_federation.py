"""A federation whose sites clip their updates and add noise."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from builders.disturbances import Deadly, Killed
from builders.rig import Rig, algorithm, small_federation
from segviz_exchange.contract import choices, keys
from segviz_exchange.contract.choices import AlgorithmName, Objective
from segviz_exchange.contract.ledger import read
from segviz_exchange.contract.progress import Progress
from segviz_exchange.contract.records import Update
from segviz_exchange.contract.sharing import NORM, PARAMETER, REPRESENTATION
from segviz_exchange.contract.site_spec import Privacy
from segviz_exchange.process.errors import Refusal

TWO = {"basel": ("liver",), "bern": ("spleen",)}
PRIVACY = {"privacy": Privacy(clip_norm=0.5, delta=1e-5, noise_multiplier=0.01)}


def private(folder: Path, name: AlgorithmName = AlgorithmName.FED_AVG, **changes: object) -> Rig:
    rig = Rig(folder, small_federation(algorithm=algorithm(name), **changes), TWO, changes=PRIVACY)
    rig.control()
    return rig


@pytest.mark.parametrize("name", [AlgorithmName.FED_AVG, AlgorithmName.FED_BN])
def test_what_leaves_differs_from_the_global_model_by_the_norm_and_the_noise(
    tmp_path: Path, name: AlgorithmName
) -> None:
    rig = private(tmp_path, name)
    rig.run()
    for number in (1, 2):
        before = rig.global_tensors(number - 1)
        update = rig.update_tensors("basel", number)
        squares = sum(float(((update[key] - before[key].astype(np.float64)) ** 2).sum()) for key in update)
        count = sum(value.size for value in update.values())
        noise = (0.01 * 0.5) ** 2 * count
        assert squares <= (0.5 + 3 * noise**0.5) ** 2
        record = read(rig.store, keys.update("basel", number, 1), Update)
        assert record.loss is None
        assert record.privacy.releases == number
        assert record.privacy.epsilon > 1000  # little noise is little privacy
        if name is AlgorithmName.FED_AVG:
            variances = [value for key, value in update.items() if key.endswith("running_var")]
            assert variances
            assert all((value >= 0).all() for value in variances)
    assert read(rig.store, keys.progress("basel"), Progress).loss is None


def test_the_noise_follows_from_nothing_that_two_runs_share(tmp_path: Path) -> None:
    """Equal manifests, equal data, equal seeds, and one copied disk."""
    one = private(tmp_path / "one", rounds=1)
    sites = {alias: one.site(alias) for alias in TWO}
    one.drive(sites, one.aggregator(), until_round=0)
    shutil.copytree(one.folder, tmp_path / "other")
    other = moved(one, tmp_path / "other")
    for rig in (one, other):
        rig.drive({alias: rig.site(alias) for alias in TWO}, rig.aggregator())
    name = "representation.downs.0.conv.unit0.conv.weight"
    drawn = [rig.update_tensors("basel", 1)[name] - rig.global_tensors(0)[name] for rig in (one, other)]
    assert not np.array_equal(*drawn)


def test_a_bucket_that_is_rolled_back_gets_no_second_release(tmp_path: Path) -> None:
    """Delete the records of a round, train it again with a learning rate of 0: the difference of the two
    updates would be what the site has learned, if their noise were the same."""
    rig = private(tmp_path, rounds=3)
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator(), until_round=0)
    before = {entry.key for entry in rig.store.list("")}
    rig.drive(sites, rig.aggregator(), until_round=2)
    sites["basel"].take_turn()  # and has sent its update for round 3
    sent = read(rig.store, keys.update("basel", 1, 1), Update)
    for entry in rig.store.list(""):
        if entry.key not in before and "/leases/" not in entry.key:
            rig.store.delete(entry.key)
    idle = msgspec.structs.replace(rig.spec.training, learning_rate=1e-30)
    rig.control(training=idle)
    again = rig.site("basel")
    with pytest.raises(Refusal, match=r"round 1, attempt 1 has been released before"):
        while again.take_turn():
            pass
    assert not rig.store.list(keys.updates("basel", 1))
    assert sent.privacy.releases == 1


def test_a_federation_that_is_made_again_goes_on_with_the_account(tmp_path: Path) -> None:
    once = private(tmp_path / "once", rounds=1)
    once.run()
    spent = read(once.store, keys.update("basel", 1, 1), Update).privacy
    limited = msgspec.structs.replace(PRIVACY["privacy"], max_epsilon=spent.epsilon)
    anew = private(tmp_path / "anew", rounds=1)
    shutil.copytree(tmp_path / "once/data", tmp_path / "anew/data", dirs_exist_ok=True)
    anew.federation, anew.home = "radiology/abdomen-22222222/", once.folder / "state/_site"
    told = anew.site("basel")
    anew.drive({"basel": told, "bern": anew.site("bern")}, anew.aggregator(), until_round=0)
    while told.take_turn():
        pass
    assert read(anew.store, keys.update("basel", 1, 1), Update).privacy.releases == 2
    third = private(tmp_path / "third", rounds=1)
    shutil.copytree(tmp_path / "once/data", tmp_path / "third/data", dirs_exist_ok=True)
    third.federation, third.home = "radiology/liver-33333333/", anew.home
    third.changes = {"privacy": limited}
    refused = third.site("basel")
    third.drive({"basel": refused, "bern": third.site("bern")}, third.aggregator(), until_round=0)
    with pytest.raises(Refusal, match=r"maxEpsilon .* 2 protected updates"):
        while refused.take_turn():
            pass
    assert not third.store.list(keys.updates("basel", 1))


def moved(rig: Rig, folder: Path) -> Rig:
    """The same federation, whose files were copied there."""
    made = Rig.__new__(Rig)
    made.__dict__.update(rig.__dict__, folder=folder, store=type(rig.store)(folder / "bucket"))
    return made


def test_killed_at_any_write_the_same_noisy_update_is_uploaded(tmp_path: Path) -> None:
    start = private(tmp_path / "start", rounds=1)
    sites = {alias: start.site(alias) for alias in TWO}
    start.drive(sites, start.aggregator(), until_round=0)
    before = len(start.store.list(keys.site_blob("basel", "")))
    # Lease, two heartbeats and scores; then the blob, its record, and the turn's end.
    for nth in range(3, 8):
        folder = tmp_path / str(nth)
        shutil.copytree(start.folder, folder)
        rig = moved(start, folder)
        try:
            rig.site("basel", Deadly(rig.store, nth, after=True)).take_turn()
        except Killed:
            rig.site("basel").take_turn()
        assert read(rig.store, keys.update("basel", 1, 1), Update).privacy.releases == 1
        assert len(rig.store.list(keys.site_blob("basel", ""))) == before + 1


def test_under_one_head_everything_that_leaves_is_noisy(tmp_path: Path) -> None:
    rig = private(tmp_path, objective=Objective.MARGINAL, rounds=1)
    rig.run()
    update, before = rig.update_tensors("basel", 1), rig.global_tensors(0)
    assert [key for key in update if key.startswith("heads._all.")]
    assert all((update[key] != before[key]).any() for key in update)


def test_local_uploads_nothing_and_spends_nothing(tmp_path: Path) -> None:
    rig = private(tmp_path, AlgorithmName.LOCAL, rounds=1)
    rig.run()
    assert read(rig.store, keys.update("basel", 1, 1), Update).privacy is None


# --- what a site releases at the end --------------------------------------------------------------------


HEAD, HEAD_NORM, BODY, BODY_NORM = "head", "head norm", "body", "body norm"
NONE, HEADS, HEADS_AND_NORM = choices.Release.NONE, choices.Release.HEADS, choices.Release.HEADS_AND_NORM
OWN, ONE = Objective.PER_ORGAN_HEAD, Objective.MARGINAL
RELEASES = {
    (AlgorithmName.FED_BN, OWN, NONE): None,
    (AlgorithmName.FED_BN, OWN, HEADS): {HEAD, HEAD_NORM},
    (AlgorithmName.FED_BN, OWN, HEADS_AND_NORM): {HEAD, HEAD_NORM, BODY_NORM},
    (AlgorithmName.FED_AVG, OWN, HEADS): {HEAD, HEAD_NORM},
    # Its BatchNorm is everybody's already.
    (AlgorithmName.FED_AVG, OWN, HEADS_AND_NORM): {HEAD, HEAD_NORM},
    (AlgorithmName.LOCAL, OWN, NONE): None,
    (AlgorithmName.LOCAL, OWN, HEADS): {HEAD, HEAD_NORM},
    # It has shared nothing so far: this is all there is of it.
    (AlgorithmName.LOCAL, OWN, HEADS_AND_NORM): {HEAD, HEAD_NORM, BODY, BODY_NORM},
    # The one head is everybody's, too.
    (AlgorithmName.FED_AVG, ONE, HEADS): set(),
    (AlgorithmName.FED_BN, ONE, HEADS): {HEAD_NORM},
    (AlgorithmName.FED_BN, ONE, HEADS_AND_NORM): {HEAD_NORM, BODY_NORM},
}


@pytest.mark.parametrize(("case", "allowed"), RELEASES.items(), ids=["-".join(case) for case in RELEASES])
def test_exactly_what_the_policy_names_leaves_at_the_end(
    tmp_path: Path,
    case: tuple[AlgorithmName, Objective, choices.Release],
    allowed: set[str] | None,
) -> None:
    name, objective, release = case
    federation = small_federation(rounds=1, local_epochs=1, algorithm=algorithm(name), objective=objective)
    rig = Rig(tmp_path, federation, TWO, changes={"release": release})
    rig.control()
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator())
    rig.conclude(sites)
    if allowed is None:
        assert rig.store.list(keys.release_blob("basel", "")) == []
        return
    groups = sites["basel"].me.model.groups
    kinds = {
        (True, PARAMETER): BODY,
        (True, NORM): BODY_NORM,
        (False, PARAMETER): HEAD,
        (False, NORM): HEAD_NORM,
    }
    expected = {
        tensor
        for tensor, group in groups.items()
        if kinds.get((group.block == REPRESENTATION, group.kind)) in allowed
    }
    assert set(rig.released("basel")) == expected
