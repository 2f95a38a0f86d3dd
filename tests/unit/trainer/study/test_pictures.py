"""Which worst cases are drawn, and that what is drawn is what was scored."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from rich.console import Console

from builders.cubes import write_cases
from builders.rig import site_spec, small_federation
from segviz_exchange.contract import codec, keys
from segviz_exchange.contract.choices import EvaluationNorm
from segviz_exchange.contract.ledger import commit, read
from segviz_exchange.contract.records import Exported, ExternalScores
from segviz_exchange.contract.run import RunHere, SiteHere
from segviz_exchange.contract.sharing import GROUPS, encode_groups
from segviz_exchange.contract.study import StudyIndex
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.folder import FolderStore
from segviz_trainer.data.dataset import load_evaluation_data
from segviz_trainer.network import segnet as network
from segviz_trainer.network.tensors import to_arrays
from segviz_trainer.participation.external import Evaluator
from segviz_trainer.process.heartbeat import Heartbeat, take_lease
from segviz_trainer.process.site import Site
from segviz_trainer.study import command
from segviz_trainer.study.redrawn import Redrawn, columns_of, redraw, worst
from segviz_trainer.study.results import IN_FEDERATION, Cost, Results, ScoredCase
from segviz_trainer.study.tables import build_tables

ORGANS = ("liver", "spleen")


def export(store: FolderStore, organs: tuple[str, ...] = ORGANS, **evaluation: object) -> Exported:
    """Untrained, with BN of its own for each organ, as under FedBN."""
    spec = small_federation()
    spec = replace(spec, evaluation=replace(spec.evaluation, **evaluation))
    net = network.build(spec, organs)
    groups = network.groups_of(net)
    tensors = to_arrays(net.state_dict())
    chance = np.random.default_rng(0)
    for name, group in groups.items():
        if group.kind == "norm" and group.block == "representation":
            for organ in organs:
                moved = tensors[name] * chance.uniform(0.5, 1.5, tensors[name].shape)
                tensors[f"organ/{organ}/{name}"] = (moved + 0.1).astype(np.float32)
    path = store.root.parent.with_name("model.safetensors")
    digest = codec.save(path, tensors, {GROUPS: encode_groups(groups)})
    store.upload(keys.exported_blob(digest), path)
    return commit(store, keys.exported("base"), Exported("base", 2, digest, 1, organs, organs, spec))


class Study:
    """A study of one row, FedBN, whose one site has cubes for its organs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FolderStore(folder / "bucket/fedbn")
        self.site = site_spec(ORGANS)
        write_cases(folder / "data", ORGANS, cases=2, seed=0)
        (folder / "state").mkdir()
        (folder / "state/salt").write_text("pepper", encoding="utf-8")
        self.results = Results("default/small", methods=["FedBN"], organs=list(ORGANS))
        self.results.costs = [Cost("FedBN", "FedBN", "PerOrganHead", 2, 2, 1, 1.0, 0, 1.0, 1, 1, 1)]

    @property
    def index(self) -> StudyIndex:
        here = SiteHere(self.site, str(self.folder / "data"), "state")
        row = RunHere("FedBN", "bucket", "fedbn/", {"basel": here, "external": here})
        return StudyIndex("default/small", (row,), ("FedBN",), None, None, worst_cases=9)

    def columns(self) -> tuple:
        return columns_of(self.results, build_tables(self.results), self.index.rows, self.folder, worst(9))

    def redrawn(self) -> list[Redrawn]:
        return [case for column in self.columns() for case in redraw(column, self.folder)]

    def report(self, monkeypatch: pytest.MonkeyPatch) -> str:
        (self.folder / "study.json").write_bytes(msgspec.json.encode(self.index))
        monkeypatch.setattr(command, "read_results", lambda index, folder: self.results)
        command.write_report(self.folder / "study.json", Console(quiet=True))
        return (self.folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def scored(organ: str, case: str, dice: float = 0.5, table: str = IN_FEDERATION) -> ScoredCase:
    site = "basel" if table == IN_FEDERATION else table
    return ScoredCase(table, "FedBN", site, organ, case, {"Dice": dice}, missed=False)


def evaluated(study: Study, organs: tuple[str, ...] = ORGANS, **evaluation: object) -> dict[str, float]:
    """Score the external set as its evaluator does; redraw every case, and say each one's Dice, as drawn."""
    export(study.store, organs, **evaluation)
    site = Site("external", study.site, study.folder / "data", study.folder / "state")
    exported = read(study.store, keys.exported("base"), Exported)
    cases = load_evaluation_data(site, exported.spec, lambda done, cases, case: None)
    heartbeat = Heartbeat(study.store, "external", take_lease(study.store, "external"))
    Evaluator(study.store, site, cases, heartbeat).run()
    outcome = read(study.store, keys.external_scores("external"), ExternalScores).variants["base"]
    study.results.add("external", "FedBN", "external", outcome)
    drawn = study.redrawn()
    assert len(drawn) == len(study.results.cases)
    as_scored = {(each.organ, each.case): each.values["Dice"] for each in study.results.cases}
    as_drawn = {(each.scored.organ, each.scored.case): each.dice for each in drawn}
    assert as_drawn == as_scored
    return as_drawn


def test_an_organ_that_is_not_in_the_exported_model_is_not_drawn_and_the_page_says_so(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated(study, organs=("spleen",))  # with `release: None`, the default, for the liver
    study.results.cases.append(scored("liver", study.results.cases[0].case))
    html = study.report(monkeypatch)
    said = " ".join(html.split())
    assert html.count('<figure class="viewer"') == 2, "one a case"
    assert (
        "Not drawn, because the organ is not in the exported model (its owners release too little to predict "
        "it): liver, In-federation, FedBN."
    ) in said
    assert (study.folder / "report-without-images.html").exists()


@pytest.mark.parametrize("norm", EvaluationNorm)
def test_an_external_case_is_drawn_with_the_norm_it_was_scored_with(
    study: Study, norm: EvaluationNorm
) -> None:
    assert any(evaluated(study, norm=norm).values())


def test_ignored_voxels_count_as_little_in_a_picture_as_in_a_score(study: Study) -> None:
    (cubes,) = study.site.data_sets
    study.site = site_spec(("liver",), data_sets=(replace(cubes, organs={"liver": (1,)}, ignored=(2,)),))
    assert any(evaluated(study).values())


def test_the_case_drawn_is_the_one_of_its_data_set(study: Study) -> None:
    """Both data sets number alike."""
    (cubes,) = study.site.data_sets
    write_cases(study.folder / "data/more", ORGANS, cases=2, seed=1)
    study.site = site_spec(ORGANS, data_sets=(cubes, replace(cubes, name="more", path="more")))
    assert len(evaluated(study)) == 2 * 2 * len(ORGANS)


def test_a_case_whose_image_is_gone_is_refused(study: Study) -> None:
    export(study.store)
    study.results.cases = [scored("liver", "gone")]
    with pytest.raises(Refusal, match="no case of basel has the id gone"):
        study.redrawn()
