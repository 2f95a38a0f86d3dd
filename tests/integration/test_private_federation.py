"""A federation whose sites clip their updates and add noise."""

import shutil
from pathlib import Path

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


def test_the_noise_is_the_sites_own_and_its_secret_stays(tmp_path: Path) -> None:
    """Equal manifests, equal data, equal seeds; only the secrets differ."""
    updates = []
    for folder in ("one", "other"):
        rig = private(tmp_path / folder, rounds=1)
        rig.run()
        updates.append(rig.update_tensors("basel", 1))
        secret = (rig.folder / "state" / "basel" / "privacy" / "secret").read_bytes()
        objects = [rig.store.get(entry.key) for entry in rig.store.list("")]
        assert not any(secret in each or secret.hex().encode() in each for each in objects)
    name = "representation.downs.0.conv.unit0.conv.weight"
    assert not np.array_equal(updates[0][name], updates[1][name])


def test_killed_at_any_write_the_same_noisy_update_is_uploaded(tmp_path: Path) -> None:
    start = private(tmp_path / "start", rounds=1)
    sites = {alias: start.site(alias) for alias in TWO}
    start.drive(sites, start.aggregator(), until_round=0)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(32))
    digests = set()
    # Lease, two heartbeats and scores; then the blob, its record, and the turn's end.
    for nth in range(3, 8):
        folder = tmp_path / str(nth)
        shutil.copytree(start.folder, folder)
        rig = Rig.__new__(Rig)
        rig.__dict__.update(start.__dict__, folder=folder, store=type(start.store)(folder / "bucket"))
        own = folder / "state" / "basel" / "privacy"
        own.mkdir(parents=True, exist_ok=True)
        shutil.copy(secret, own / "secret")
        try:
            rig.site("basel", Deadly(rig.store, nth, after=True)).take_turn()
        except Killed:
            rig.site("basel").take_turn()
        record = read(rig.store, keys.update("basel", 1, 1), Update)
        digests.add(record.blob)
        assert record.privacy.releases == 1
    assert len(digests) == 1


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
