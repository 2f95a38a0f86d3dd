"""The real trainer and aggregator together, in one process: algorithms and what they move."""

from pathlib import Path

import numpy as np
import pytest

from rig import Rig, algorithm, small_federation
from segviz_exchange.sharing import NORM, REPRESENTATION
from segviz_exchange.spec import AlgorithmName, Objective
from segviz_trainer.model import build, groups_of

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
