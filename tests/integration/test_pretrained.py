"""A federation that starts from another one's model."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from builders.rig import Rig, algorithm, small_federation
from segviz_exchange.contract import choices, keys
from segviz_exchange.contract.choices import AlgorithmName, Start
from segviz_exchange.contract.ledger import find, read
from segviz_exchange.contract.progress import Progress
from segviz_exchange.contract.records import Round
from segviz_exchange.contract.sharing import NORM, REPRESENTATION, decode_groups
from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.process.errors import Refusal
from segviz_trainer.cli.data import init
from segviz_trainer.models.exported import averaged_norm
from segviz_trainer.models.pretrained import start_from
from segviz_trainer.network.segnet import build

TWO = {"basel": ("liver",), "bern": ("spleen",)}
OTHERS = {"basel": ("liver",), "chur": ("kidneys",)}


def pretrained(**changes: object) -> FederationSpec:
    base = small_federation(seed=99, **changes)
    return msgspec.structs.replace(base, model=msgspec.structs.replace(base.model, start=Start.PRETRAINED))


@pytest.fixture(scope="module")
def donors(tmp_path_factory: pytest.TempPathFactory) -> dict[AlgorithmName, Path]:
    """Exported folders of finished federations."""
    found = {}
    for name in (AlgorithmName.FED_AVG, AlgorithmName.FED_BN):
        rig = Rig(tmp_path_factory.mktemp(name), small_federation(algorithm=algorithm(name), rounds=1), TWO)
        rig.control()
        rig.run()
        rig.export()
        found[name] = rig.folder / "models" / "base"
    return found


@pytest.mark.parametrize("donor", [AlgorithmName.FED_AVG, AlgorithmName.FED_BN])
def test_round_0_is_the_model_and_new_heads_are_seeded(
    tmp_path: Path, donors: dict[AlgorithmName, Path], donor: AlgorithmName
) -> None:
    rig = Rig(tmp_path, pretrained(), OTHERS)
    rig.control()
    start_from(rig.store, donors[donor])
    round_0 = rig.global_tensors(0)
    model = rig_tensors(donors[donor])
    seeded = build(rig.spec, ("kidneys", "liver")).state_dict()
    groups = decode_groups(rig_metadata(rig)["groups"])
    norm = averaged_norm(model, ("liver", "spleen"), groups_of_donor(donors[donor]))
    for name, group in groups.items():
        if group.block == "kidneys":
            assert np.array_equal(round_0[name], seeded[name].numpy()), name
        elif group.kind == NORM and donor is AlgorithmName.FED_BN:
            expected = norm if group.block == REPRESENTATION else model
            assert np.allclose(round_0[name], expected[name]), name
        elif group.kind != "counter":
            assert np.array_equal(round_0[name], model[name]), name


def rig_tensors(folder: Path) -> dict[str, np.ndarray]:
    from segviz_exchange.contract.codec import open_tensors

    return open_tensors(folder / "model.safetensors").read_all()


def groups_of_donor(folder: Path):
    from segviz_exchange.contract.codec import open_tensors

    return decode_groups(open_tensors(folder / "model.safetensors").metadata["groups"])


def rig_metadata(rig: Rig) -> dict[str, str]:
    from segviz_exchange.contract.codec import open_tensors

    path = rig.folder / "round-0"
    path.write_bytes(rig.store.get(keys.global_blob(rig.round(0).blob)))
    return open_tensors(path).metadata


def test_everybody_waits_until_the_model_is_there_and_then_trains_from_it(
    tmp_path: Path, donors: dict[AlgorithmName, Path]
) -> None:
    rig = Rig(tmp_path, pretrained(), TWO)
    rig.control()
    sites = {alias: rig.site(alias) for alias in TWO}
    aggregator = rig.aggregator()
    for _ in range(3):
        assert not any(site.take_turn() for site in sites.values())
        aggregator.step()
    assert find(rig.store, keys.round_record(0), Round) is None
    assert rig.store.list(keys.all_updates("basel")) == []
    for key in (keys.progress("basel"), keys.AGGREGATOR_PROGRESS):
        assert "segviz init --from MODEL" in read(rig.store, key, Progress).message
    started = start_from(rig.store, donors[AlgorithmName.FED_AVG])
    assert started.seeded == ()
    rig.drive(sites, aggregator)
    final = rig.conclude(sites)
    assert final.round in (1, 2)
    assert rig.round(0).participants == ()
    assert rig.export()["base"].organs == ("liver", "spleen")


def test_the_command_finds_the_one_federation_of_a_folder(
    tmp_path: Path, donors: dict[AlgorithmName, Path]
) -> None:
    rig = Rig(tmp_path / "rig", pretrained(), TWO)
    rig.control()
    bucket = tmp_path / "bucket" / "default" / "abdomen-1"
    bucket.parent.mkdir(parents=True)
    shutil.copytree(rig.folder / "bucket", bucket)
    words = ["--from", str(donors[AlgorithmName.FED_AVG]), "--store", str(tmp_path / "bucket")]
    result = CliRunner().invoke(init, words, catch_exceptions=False)
    assert result.output.startswith("Round 0 is ")
    assert (bucket / keys.round_record(0)).exists()


def test_a_start_that_does_not_fit_is_refused(tmp_path: Path, donors: dict[AlgorithmName, Path]) -> None:
    model = donors[AlgorithmName.FED_AVG]
    seeded = Rig(tmp_path / "seeded", small_federation(), TWO)
    with pytest.raises(Refusal, match="no federation has started"):
        start_from(seeded.store, model)
    seeded.control()
    with pytest.raises(Refusal, match=r"spec\.model\.start is Seeded"):
        start_from(seeded.store, model)
    wide = pretrained()
    wide = msgspec.structs.replace(wide, model=msgspec.structs.replace(wide.model, channels=(8, 16)))
    rig = Rig(tmp_path / "wide", wide, TWO)
    rig.control()
    with pytest.raises(Refusal, match=r"Give spec\.model the channels"):
        start_from(rig.store, model)
    with pytest.raises(Refusal, match="cannot be read"):
        start_from(rig.store, tmp_path)
    fits = Rig(tmp_path / "fits", pretrained(), TWO)
    fits.control()
    start_from(fits.store, model)
    with pytest.raises(Refusal, match="round 0 already exists"):
        start_from(fits.store, model)


def test_a_head_for_all_organs_is_taken_only_where_the_organs_are_the_same(
    tmp_path: Path, donors: dict[AlgorithmName, Path]
) -> None:
    rig = Rig(tmp_path, pretrained(objective=choices.Objective.MARGINAL), TWO)
    rig.control()
    started = start_from(rig.store, donors[AlgorithmName.FED_AVG])
    assert all(name.startswith("heads._all.") for name in started.seeded)
    assert started.seeded


def test_the_one_head_is_taken_where_the_organs_are_the_same(tmp_path: Path) -> None:
    marginal = {"objective": choices.Objective.MARGINAL, "algorithm": algorithm(AlgorithmName.FED_AVG)}
    donor = Rig(tmp_path / "donor", small_federation(rounds=1, **marginal), TWO)
    donor.control()
    donor.run()
    donor.export()
    for organs, taken in ((TWO, True), (OTHERS, False)):
        rig = Rig(tmp_path / str(taken), pretrained(**marginal), organs)
        rig.control()
        started = start_from(rig.store, donor.folder / "models" / "base")
        assert any(name.startswith("heads._all.") for name in started.taken) == taken
        assert (started.seeded == ()) == taken
