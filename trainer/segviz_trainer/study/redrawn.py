"""Cases segmented again with the exported model, to be drawn: which, and how.

Done where the images lie, and only for sites whose `scores` let case rows out.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from segviz_exchange.contract import codec, keys
from segviz_exchange.contract.choices import EvaluationNorm, Intensity
from segviz_exchange.contract.ledger import find
from segviz_exchange.contract.records import Exported, Variant
from segviz_exchange.contract.run import RunHere, SiteHere
from segviz_exchange.contract.sharing import GROUPS, decode_groups
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.store import Store, download
from segviz_trainer.data.cache import PreparedCase, prepare_case
from segviz_trainer.data.dataset import load_evaluation_data
from segviz_trainer.data.headers import check_header
from segviz_trainer.data.layouts import Case, find_cases
from segviz_trainer.data.opened import opened
from segviz_trainer.data.preprocess import read_image
from segviz_trainer.inference.options import InferenceOptions
from segviz_trainer.inference.predictor import Predictor
from segviz_trainer.metrics.overlap import dice
from segviz_trainer.models.for_external import load_for_external
from segviz_trainer.models.trained import load_organ
from segviz_trainer.network import segnet as network
from segviz_trainer.network.device import Device
from segviz_trainer.process.site import Site
from segviz_trainer.scoring.case_ids import case_name, salt_of, salted
from segviz_trainer.scoring.cases import scored_masks
from segviz_trainer.study.results import DICE, IN_FEDERATION, Results, ScoredCase
from segviz_trainer.study.tables import Table
from segviz_trainer.viewer.case import Mask, Modality, ViewedCase, Volume


@dataclass(frozen=True)
class Redrawn:
    """A case, segmented again: all that a picture of it is made of."""

    rank: str
    """Among the method's cases: worst, median."""
    scored: ScoredCase
    dice: float
    """Of the prediction that is shown; another one than was scored where several sites own the organ."""
    image: Volume
    """(X, Y, Z) on the file's grid, as the next two, with the file's own values."""
    modality: Modality
    truth: Mask
    prediction: Mask
    affine: NDArray[np.float64]
    """(4, 4), from voxels to millimetres in RAS."""

    def viewed(self, organs: Sequence[str]) -> ViewedCase:
        """For the viewer. `organs` are all of the page, in one order."""
        turn = io_orientation(self.affine)  # type: ignore[no-untyped-call]
        turned = self.affine @ inv_ornt_aff(turn, self.image.shape)  # type: ignore[no-untyped-call]
        image, truth, prediction = (
            np.ascontiguousarray(apply_orientation(volume, turn))  # type: ignore[no-untyped-call]
            for volume in (self.image, self.truth, self.prediction)
        )
        organ = self.scored.organ
        x, y, z = np.sqrt((turned[:3, :3] ** 2).sum(axis=0)).tolist()
        return ViewedCase(
            title=self._title(),
            image=image,
            spacing=(x, y, z),
            organs=tuple(organs),
            truth={organ: truth},
            prediction={organ: prediction},
            modality=self.modality,
            origin=tuple(turned[:3, 3].tolist()),
        )

    def _title(self) -> str:
        scored, value = self.scored, self.scored.values[DICE.name]
        title = (
            f"{scored.organ}, {self.rank} case of {scored.table}, {scored.method}: Dice {value:.3f} "
            f"({scored.site}, case {scored.case})"
        )
        if abs(value - self.dice) > 0.005:
            title += f"; shown is the exported model's, Dice {self.dice:.3f}"
        return title


Pick = Callable[[Sequence[ScoredCase]], Sequence[tuple[str, ScoredCase]]]
"""From a method's cases, lowest Dice first, to those that are drawn, each with its rank."""


def worst(count: int) -> Pick:
    return lambda cases: [("worst", case) for case in cases[:count]]


def worst_and_median(cases: Sequence[ScoredCase]) -> Sequence[tuple[str, ScoredCase]]:
    """Of two cases the better one stands for the median: the other is drawn already."""
    return [("worst", cases[0]), *([("median", cases[len(cases) // 2])] if len(cases) > 1 else [])]


@dataclass(frozen=True)
class Column:
    """Cases of the best method of one organ in one table."""

    table: str
    organ: str
    method: str
    run: RunHere
    exported: Exported | None
    cases: tuple[tuple[str, ScoredCase], ...]

    @property
    def can_be_drawn(self) -> bool:
        """Owners score an organ whether or not they release enough of it to be exported."""
        return self.exported is not None and self.organ in self.exported.organs


def columns_of(
    results: Results, tables: Sequence[Table], runs: Iterable[RunHere], folder: Path, pick: Pick
) -> tuple[Column, ...]:
    """What is to be drawn. `runs` are those behind the results, by name; `folder` is their index's."""
    methods = {(run.name + variant.suffix, run.fold): (run, variant) for run in runs for variant in Variant}
    columns = []
    for table in (each for each in tables if each.metric is DICE):
        for organ in table.organs:
            best = table.best(organ)
            if best is None:
                continue
            cases = [
                each
                for each in results.cases
                if (each.table, each.organ, each.method) == (table.name, organ, best)
                and (best, each.fold) in methods  # of kept scores there is no model here
                and each.site in methods[best, each.fold][0].sites
            ]
            picked = pick(sorted(cases, key=lambda each: each.values[DICE.name])) if cases else ()
            for fold in dict.fromkeys(case.fold for _, case in picked):
                run, variant = methods[best, fold]
                exported = find(run.open_store(folder), keys.exported(variant), Exported)
                chosen = tuple(each for each in picked if each[1].fold == fold)
                columns.append(Column(table.name, organ, best, run, exported, chosen))
    return tuple(columns)


def redraw(column: Column, folder: Path) -> Iterator[Redrawn]:
    """Segment the cases of a column that can be drawn, one after the other.

    Raises:
        Refusal: a case's image is not there any more.
    """
    artist = _Artist(column, folder)
    for rank, case in column.cases:
        yield artist.draw(rank, case)


class _Artist:
    """Holds the exported model of one row, set up for one organ."""

    def __init__(self, column: Column, folder: Path) -> None:
        assert column.exported is not None, "only what is exported is drawn"
        self._run, self._organ, self._folder = column.run, column.organ, folder
        self._spec = column.exported.spec
        store = column.run.open_store(folder)
        self._predictor = _predictor(column.exported, folder / "scratch")
        file = _open(store, column.exported, folder / "scratch" / "exported")
        tensors = file.read_all()
        if column.table == IN_FEDERATION:
            # Sites score with BN of their own, whatever `evaluation.norm` says of external sets.
            load_organ(self._predictor.model, self._organ, tensors)
        else:
            groups = decode_groups(file.metadata[GROUPS])
            cases = self._external_cases(column.table)
            load_for_external(self._predictor, column.exported, self._organ, tensors, groups, cases)

    def _external_cases(self, alias: str) -> tuple[PreparedCase, ...]:
        """All whose statistics the scored model had, or none where it had not theirs."""
        if self._spec.evaluation.norm is not EvaluationNorm.ADAPTED:
            return ()
        site = _site(alias, self._run.sites[alias], self._folder)
        return load_evaluation_data(site, self._spec, lambda done, cases, case: None)

    def draw(self, rank: str, case: ScoredCase) -> Redrawn:
        site = _site(case.site, self._run.sites[case.site], self._folder)
        found = _find(case, site)
        limit = site.spec.max_case_mebibytes
        prepared = prepare_case(found, self._spec.preprocessing, site.organs, limit, site.state / "cache")
        mask = self._predictor.masks(prepared, (self._organ,))[self._organ]
        prediction, truth = scored_masks(mask, prepared.native_label(), site.organs.index(self._organ))
        with opened(found, limit) as files:
            image = read_image(files.case.image, check_header(files.case.image, limit))
        in_hounsfield = self._spec.preprocessing.intensity.method is Intensity.WINDOW
        return Redrawn(
            rank=rank,
            scored=case,
            dice=dice(prediction, truth),
            image=image,
            modality=Modality.CT if in_hounsfield else Modality.OTHER,
            truth=truth,
            prediction=prediction,
            affine=prepared.native.matrix,
        )


def _predictor(exported: Exported, scratch: Path) -> Predictor:
    scratch.mkdir(parents=True, exist_ok=True)
    device = Device.choose(exported.spec.training).settle()
    net = device.move(network.build(exported.spec, exported.all_organs))
    return Predictor(net, exported.all_organs, device, InferenceOptions.of(exported.spec))


def _open(store: Store, exported: Exported, scratch: Path) -> codec.TensorFile:
    return codec.open_tensors(download(store, keys.exported_blob(exported.blob), exported.blob, scratch))


def _site(alias: str, site: SiteHere, folder: Path) -> Site:
    return Site(alias, site.spec, Path(site.data_root), folder / site.state)


def _find(case: ScoredCase, site: Site) -> Case:
    """The case behind an id: this is done at the site, which knows the salt."""
    salt, id_ = salt_of(site), case.case.rpartition("/")[2]  # after its fold
    for number, data_set in enumerate(site.spec.data_sets):
        if case.organ not in data_set.annotated:
            continue
        for found in find_cases(site.data_root, data_set, f"spec.dataSets[{number}]"):
            if salted(case_name(found), salt) == id_:
                return found
    raise Refusal(
        f"{site.data_root}: no case of {case.site} has the id {case.case}, under which "
        f"its {case.organ} was scored. Put its images back; for a study without pictures, set "
        "spec.worstCases to 0."
    )
