"""The real trainer and aggregator together, in one process: algorithms and what they move."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from builders.algorithms import build_algorithm
from builders.disturbances import Deadly, Killed
from builders.rig import Rig, algorithm, small_federation
from segviz_exchange.contract import keys, spec
from segviz_exchange.contract.choices import AlgorithmName, Objective
from segviz_exchange.contract.ledger import read
from segviz_exchange.contract.records import Outcome
from segviz_exchange.contract.sharing import NORM, REPRESENTATION
from segviz_trainer.network.segnet import build, groups_of
from segviz_trainer.participation.rounds import RoundLoop

TWO = {"basel": ("liver",), "bern": ("spleen",)}
THREE = {**TWO, "chur": ("pancreas",)}


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_a_federation_of_one_is_local_training_bit_for_bit(tmp_path: Path) -> None:
    releases = []
    for name in (AlgorithmName.LOCAL, AlgorithmName.FED_AVG):
        rig = Rig(tmp_path / name, small_federation(algorithm=algorithm(name)), {"basel": ("liver",)})
        rig.control()
        rig.run()
        released = rig.released("basel")
        releases.append(released if name is AlgorithmName.LOCAL else {**released, **rig.global_tensors(2)})
    trained = {name: value for name, value in releases[1].items() if not name.endswith("tracked")}
    assert equal(releases[0], trained)


def test_the_order_in_which_sites_arrive_changes_nothing(tmp_path: Path) -> None:
    digests = []
    for order in (["basel", "bern", "chur"], ["chur", "bern", "basel"]):
        rig = Rig(tmp_path / order[0], small_federation(), THREE)
        rig.control()
        sites = {alias: rig.site(alias) for alias in order}
        rig.drive(sites, rig.aggregator())
        rig.conclude(sites)
        digests.append(rig.digests())
    assert digests[0] == digests[1]


def test_fedprox_stays_closer_to_the_global_model_than_fedavg(tmp_path: Path) -> None:
    distances = {}
    for mu in (None, 10.0):
        name = AlgorithmName.FED_AVG if mu is None else AlgorithmName.FED_PROX
        rig = Rig(tmp_path / name, small_federation(algorithm=algorithm(name, mu), rounds=1), TWO)
        rig.control()
        rig.run()
        start, update = rig.global_tensors(0), rig.update_tensors("basel", 1)
        weights = [key for key in update if key.endswith("conv.weight")]
        distances[mu] = sum(float(((update[key] - start[key]) ** 2).sum()) for key in weights)
    assert distances[10.0] < distances[None] / 2


@pytest.mark.parametrize("name", [AlgorithmName.FED_AVG, AlgorithmName.FED_BN, AlgorithmName.LOCAL])
def test_a_head_never_leaves_its_site_before_release(tmp_path: Path, name: AlgorithmName) -> None:
    rig = Rig(tmp_path, small_federation(algorithm=algorithm(name)), TWO)
    rig.control()
    rig.run()
    for alias in TWO:
        for number in (1, 2):
            assert not [tensor for tensor in rig.update_tensors(alias, number) if "heads." in tensor]
    assert not [tensor for tensor in rig.global_tensors(2) if "heads." in tensor]


def test_a_head_with_two_owners_is_averaged_over_them(tmp_path: Path) -> None:
    organs = {"basel": ("liver",), "bern": ("liver",), "chur": ("spleen",)}
    rig = Rig(tmp_path, small_federation(rounds=1, algorithm=algorithm(AlgorithmName.FED_AVG)), organs)
    rig.control()
    rig.run()
    name = "heads.liver.0.0.conv.weight"
    mean = (rig.update_tensors("basel", 1)[name].astype(np.float64) + rig.update_tensors("bern", 1)[name]) / 2
    assert np.array_equal(rig.global_tensors(1)[name], mean.astype(np.float32))
    assert name not in rig.update_tensors("chur", 1)


def test_under_fedbn_no_tensor_of_a_batchnorm_is_uploaded_and_every_other_is(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(rounds=1), TWO)
    rig.control()
    rig.run()
    groups = groups_of(build(rig.spec, ("liver",)))
    expected = {
        name for name, group in groups.items() if group.block == REPRESENTATION and group.kind == "parameter"
    }
    assert set(rig.update_tensors("basel", 1)) == expected
    assert any(group.kind == NORM for group in groups.values())


def test_the_marginal_head_is_shared_and_predicts_every_organ(tmp_path: Path) -> None:
    rig = Rig(
        tmp_path,
        small_federation(objective=Objective.MARGINAL, algorithm=algorithm(AlgorithmName.FED_AVG)),
        TWO,
    )
    rig.control()
    rig.run()
    assert [name for name in rig.global_tensors(2) if name.startswith("heads._all.")]


METHODS = [
    *((name, Objective.PER_ORGAN_HEAD) for name in AlgorithmName),
    *((AlgorithmName.FED_AVG, objective) for objective in Objective),
    (AlgorithmName.FED_BN, Objective.CONDITIONAL_DISTILLATION),
    (AlgorithmName.FED_BN, Objective.PSEUDO_LABELS),
    (AlgorithmName.FED_ADAM, Objective.MARGINAL_EXCLUSION),
    (AlgorithmName.LOCAL, Objective.MARGINAL),
]


@pytest.mark.parametrize(("name", "objective"), METHODS, ids=lambda each: str(each))
def test_every_method_ends_with_the_same_bytes_whenever_its_aggregator_is_killed(
    tmp_path: Path, name: AlgorithmName, objective: Objective
) -> None:
    """Calm: one aggregator. Wild: none survives its fourth write, and each finds nothing but the store."""
    pool = {"basel": ("liver", "spleen")}
    digests = []
    for calm in (True, False):
        federation = small_federation(
            algorithm=build_algorithm(name), objective=objective, fine_tuning=spec.FineTuning(1, 1e-2)
        )
        rig = Rig(tmp_path / str(calm), federation, pool if name.is_central else TWO, pooled=name.is_central)
        rig.control()
        sites = {alias: rig.site(alias) for alias in rig.organs}
        if calm:
            rig.drive(sites, rig.aggregator())
        else:
            kills = drive_with_deadly_aggregators(rig, sites)
            assert kills >= 5
        final = rig.conclude(sites)
        assert 1 <= final.round <= 2
        digests.append(rig.digests())
        exported = rig.export()
        assert {"base", "tuned"} == exported.keys()
        assert exported["base"].organs == ("liver", "spleen")
    assert digests[0] == digests[1]


def drive_with_deadly_aggregators(rig: Rig, sites: Mapping[str, RoundLoop]) -> int:
    """Returns how many were killed."""
    for number in range(1000):
        shutil.rmtree(rig.folder / "scratch", ignore_errors=True)
        try:
            rig.drive(sites, rig.aggregator(Deadly(rig.store, 3 + number % 2, after=bool(number % 3))))
        except Killed:
            continue
        return number
    raise AssertionError("the federation does not end")


def test_central_learns_both_organs_from_sets_that_have_one_each(tmp_path: Path) -> None:
    """With the marginal loss. Its model is whole in the bucket: the export needs no site's own copy."""
    federation = small_federation(
        algorithm=algorithm(AlgorithmName.CENTRAL_MARGINAL), rounds=4, local_epochs=10
    )
    rig = Rig(tmp_path, federation, {"basel": ("liver", "spleen")}, pooled=True)
    rig.control()
    rig.run()
    assert {case.organs for case in rig.data["basel"].train} == {frozenset({"liver"}), frozenset({"spleen"})}
    assert [name for name in rig.global_tensors(4) if name.startswith("heads._all.")]
    test = read(rig.store, keys.outcome("basel"), Outcome).variants["base"].test
    assert test.keys() == {"liver", "spleen"}
    assert min(dice.mean for dice in test.values()) > 0.5
