"""The worst cases as slices: image, truth and prediction in three planes.

Made where the images lie, and only for sites whose `scores` let case rows out.
"""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray

from segviz_exchange.contract import codec, keys
from segviz_exchange.contract.choices import EvaluationNorm
from segviz_exchange.contract.ledger import find
from segviz_exchange.contract.records import Exported, Variant
from segviz_exchange.contract.sharing import GROUPS, decode_groups
from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.contract.study import StudyIndex, StudyRow, StudySite
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.store import Store, download
from segviz_trainer.data.cache import PreparedCase, prepare_case
from segviz_trainer.data.dataset import load_evaluation_data
from segviz_trainer.data.layouts import find_cases
from segviz_trainer.inference.predictor import Predictor, to_native
from segviz_trainer.metrics.overlap import dice
from segviz_trainer.models.for_external import load_for_external
from segviz_trainer.models.trained import load_organ
from segviz_trainer.network import segnet as network
from segviz_trainer.network.device import Device
from segviz_trainer.process.site import Site
from segviz_trainer.scoring.case_ids import case_name, salt_of, salted
from segviz_trainer.scoring.cases import scored_masks
from segviz_trainer.study.reading import store_of
from segviz_trainer.study.results import DICE, IN_FEDERATION, Results, ScoredCase
from segviz_trainer.study.tables import Table

_SIDE = 176
"""Pixels of a slice's longer side."""
_MARGIN_MM = 20.0
_TRUTH, _PREDICTION = (0.34, 0.71, 0.91), (0.90, 0.62, 0.0)
"""Sky blue and orange of Okabe and Ito: told apart by every kind of colour vision."""
_SHARE = 0.5
PLANES = ("axial", "coronal", "sagittal")

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Slice:
    plane: str
    image: str
    """data: URIs of PNGs, here and below."""
    truth: str
    prediction: str


@dataclass(frozen=True)
class WorstCase:
    table: str
    organ: str
    method: str
    site: str
    case: str
    dice: float
    redrawn_dice: float
    """Of the prediction that is shown; another one than `dice` where several sites own the organ."""
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Column:
    """What the best method of one organ in one table does worst."""

    table: str
    organ: str
    method: str
    row: StudyRow
    exported: Exported | None
    cases: tuple[ScoredCase, ...]

    @property
    def can_be_drawn(self) -> bool:
        """Owners score an organ whether or not they release enough of it to be exported."""
        return self.exported is not None and self.organ in self.exported.organs


def worst_columns(
    results: Results, tables: Sequence[Table], index: StudyIndex, folder: Path
) -> tuple[Column, ...]:
    rows = {row.name + variant.suffix: (row, variant) for row in index.rows for variant in Variant}
    columns = []
    for table in (each for each in tables if each.metric is DICE):
        for organ in table.organs:
            best = table.best(organ)
            cases = [
                each
                for each in results.cases
                if (each.table, each.organ, each.method) == (table.name, organ, best)
            ]
            worst = sorted(cases, key=lambda each: each.values[DICE.name])[: index.worst_cases]
            if best is not None and worst:
                row, variant = rows[best]
                exported = find(store_of(row, folder), keys.exported(variant), Exported)
                columns.append(Column(table.name, organ, best, row, exported, tuple(worst)))
    return tuple(columns)


def draw_worst_cases(columns: Iterable[Column], folder: Path) -> Iterator[WorstCase]:
    """Of columns that can be drawn."""
    for column in columns:
        yield from map(_Artist(column, folder).draw, column.cases)


class _Artist:
    """Holds the exported model of one row, set up for one organ."""

    def __init__(self, column: Column, folder: Path) -> None:
        assert column.exported is not None, "only what is exported is drawn"
        self._row, self._organ, self._folder = column.row, column.organ, folder
        self._spec = column.exported.spec
        store = store_of(column.row, folder)
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
        site = _site(alias, self._row.sites[alias], self._folder)
        return load_evaluation_data(site, self._spec, lambda done, cases, case: None)

    def draw(self, case: ScoredCase) -> WorstCase:
        site = _site(case.site, self._row.sites[case.site], self._folder)
        prepared = _find(case, site, self._spec)
        mask = self._predictor.masks(prepared, (self._organ,))[self._organ]
        prediction, truth = scored_masks(mask, prepared.native_label(), site.organs.index(self._organ))
        image = to_native(prepared.image(), prepared)[0]
        return WorstCase(
            table=case.table,
            organ=case.organ,
            method=case.method,
            site=case.site,
            case=case.case,
            dice=case.values[DICE.name],
            redrawn_dice=dice(prediction, truth),
            slices=tuple(_slices(image, truth, prediction, prepared.native.matrix)),
        )


def _predictor(exported: Exported, scratch: Path) -> Predictor:
    scratch.mkdir(parents=True, exist_ok=True)
    device = Device.choose(exported.spec.training).settle()
    net = device.move(network.build(exported.spec, exported.all_organs))
    return Predictor(net, exported.all_organs, device, exported.spec.evaluation.overlap)


def _open(store: Store, exported: Exported, scratch: Path) -> codec.TensorFile:
    return codec.open_tensors(download(store, keys.exported_blob(exported.blob), exported.blob, scratch))


def _site(alias: str, site: StudySite, folder: Path) -> Site:
    return Site(alias, site.spec, Path(site.data_root), folder / site.state)


def _find(case: ScoredCase, site: Site, spec: FederationSpec) -> PreparedCase:
    """The case behind an id: this is done at the site, which knows the salt."""
    salt = salt_of(site)
    for number, data_set in enumerate(site.spec.data_sets):
        if case.organ not in data_set.annotated:
            continue
        for found in find_cases(site.data_root, data_set, f"spec.dataSets[{number}]"):
            if salted(case_name(found), salt) == case.case:
                return prepare_case(
                    found, spec.preprocessing, site.organs, site.spec.max_case_mebibytes, site.state / "cache"
                )
    raise Refusal(
        f"{site.data_root}: no case of {case.site} has the id {case.case}, under which "
        f"its {case.organ} was scored. Put its images back, or set spec.worstCases to 0 "
        "for a report without pictures."
    )


def _slices(image: Volume, truth: Mask, prediction: Mask, affine: NDArray[np.float64]) -> Iterator[Slice]:
    """As a radiologist has them: the patient's right on the left, anterior and superior on top."""
    turn = io_orientation(affine)  # type: ignore[no-untyped-call]
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))[np.argsort(turn[:, 0])]
    image, truth, prediction = (
        apply_orientation(volume, turn)  # type: ignore[no-untyped-call]
        for volume in (image, truth, prediction)
    )
    either = truth | prediction
    if not either.any():
        either = np.ones_like(either)
    low, high = np.quantile(image[_window(either, spacing)], (0.005, 0.995))
    grey = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)
    for plane, axis in zip(PLANES, (2, 1, 0), strict=True):
        others = tuple(each for each in range(3) if each != axis)
        at = int(either.sum(axis=others).argmax())
        window = list(_window(either, spacing))
        window[axis] = slice(at, at + 1)
        scale = (spacing[others[0]], spacing[others[1]])

        def cut(
            volume: NDArray[np.generic], window: tuple[slice, ...] = tuple(window), axis: int = axis
        ) -> NDArray[np.generic]:
            return np.flip(np.asarray(volume[window].squeeze(axis)).T)

        picture = cut(grey)
        yield Slice(
            plane,
            _png(_upright(picture, scale)),
            _png(_overlaid(picture, cut(truth), _TRUTH, scale)),
            _png(_overlaid(picture, cut(prediction), _PREDICTION, scale)),
        )


def _window(either: Mask, spacing: NDArray[np.float64]) -> tuple[slice, ...]:
    """The organ with some surroundings."""
    found = []
    for axis in range(3):
        inside = np.flatnonzero(either.any(axis=tuple(each for each in range(3) if each != axis)))
        margin = int(np.ceil(_MARGIN_MM / spacing[axis]))
        found.append(slice(max(0, inside[0] - margin), min(either.shape[axis], inside[-1] + 1 + margin)))
    return tuple(found)


def _overlaid(
    picture: NDArray[np.generic],
    mask: NDArray[np.generic],
    colour: tuple[float, ...],
    scale: tuple[float, float],
) -> NDArray[np.float64]:
    grey = _upright(picture, scale)
    inside = _upright(np.asarray(mask, np.float32), scale)[..., :1] > 0.5
    return np.where(inside, (1 - _SHARE) * grey + _SHARE * np.array(colour), grey)


def _upright(picture: NDArray[np.generic], scale: tuple[float, float]) -> NDArray[np.float64]:
    """(rows, columns, 3) with square pixels; every voxel stays visible as what it is."""
    across, up = scale
    height, width = picture.shape[0] * up, picture.shape[1] * across
    factor = _SIDE / max(height, width)
    rows = np.minimum(np.arange(max(1, round(height * factor))) / factor / up, picture.shape[0] - 1).astype(
        int
    )
    columns = np.minimum(np.arange(max(1, round(width * factor))) / factor / across, picture.shape[1] - 1)
    enlarged = np.asarray(picture, np.float64)[rows][:, columns.astype(int)]
    return np.repeat(enlarged[..., None], 3, axis=2)


def _png(picture: NDArray[np.float64]) -> str:
    data = io.BytesIO()
    matplotlib.image.imsave(data, np.rint(picture * 255).astype(np.uint8), format="png")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
