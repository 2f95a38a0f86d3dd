"""The federation's model, whole: what an export holds and how it is put together again.

Plain tensor names are common to all organs: the representation, each organ's head. `organ/<organ>/<name>`
replaces a common tensor while that organ is predicted: its owners' BN under FedBN, their fine-tuned copy of
the multi-organ head, their whole representation under Local. Several owners are averaged.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from segviz_exchange.contract.choices import EvaluationNorm
from segviz_exchange.contract.codec import Array
from segviz_exchange.contract.records import Exported
from segviz_exchange.contract.sharing import COUNTER, NORM, REPRESENTATION, SHARED_HEAD, TensorGroup

Tensors = Mapping[str, Array]

WEIGHTS, RECORD = "model.safetensors", "model.json"
"""Files of an export's folder."""

ORGANS = "organ/"


def organ_prefix(organ: str) -> str:
    return f"{ORGANS}{organ}/"


def assemble(organ: str, releases: Sequence[Tensors], groups: Mapping[str, TensorGroup]) -> dict[str, Array]:
    """What the owners of `organ` released, under the names an export gives it."""
    assembled = {}
    for name, value in mean(releases).items():
        block = groups[name].block
        if block in (REPRESENTATION, SHARED_HEAD):
            assembled[organ_prefix(organ) + name] = value
        elif block == organ:
            assembled[name] = value
    return assembled


def is_complete(organ: str, known: Tensors, groups: Mapping[str, TensorGroup]) -> bool:
    """Whether sharing and releases cover what `organ` needs; an untrained tensor must never stand in."""
    return all(
        name in known or organ_prefix(organ) + name in known
        for name, group in groups.items()
        if group.kind != COUNTER and group.block in (REPRESENTATION, SHARED_HEAD, organ)
    )


def for_organ(organ: str, tensors: Tensors) -> dict[str, Array]:
    """The state with which `organ` is predicted."""
    common = {name: value for name, value in tensors.items() if not name.startswith(ORGANS)}
    prefix = organ_prefix(organ)
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return common | own


def averaged_norm(
    tensors: Tensors, organs: Iterable[str], groups: Mapping[str, TensorGroup]
) -> dict[str, Array]:
    """The mean over organs of what BatchNorm modules own."""
    sets = []
    for prefix in map(organ_prefix, organs):
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        sets.append({name: value for name, value in own.items() if groups[name].kind == NORM})
    return mean(sets)


def as_evaluated(
    exported: Exported, tensors: Mapping[str, Array], groups: Mapping[str, TensorGroup]
) -> dict[str, Array]:
    """The tensors that external sets are scored with: every organ has the mean norm where it is averaged."""
    if exported.spec.evaluation.norm is not EvaluationNorm.AVERAGED:
        return dict(tensors)
    norm = averaged_norm(tensors, exported.organs, groups)
    return {
        **tensors,
        **{organ_prefix(organ) + name: norm[name] for organ in exported.organs for name in norm},
    }


def mean(parts: Sequence[Tensors]) -> dict[str, Array]:
    """Element-wise over tensors that every part has, summed in float64 in the given order, divided once."""
    if not parts:
        return {}
    names = set.intersection(*(set(part) for part in parts))
    averaged = {}
    for name in sorted(names):
        first = parts[0][name]
        total = first.astype(np.float64)
        for part in parts[1:]:
            total = total + part[name]
        averaged[name] = (total / len(parts)).astype(first.dtype)
    return averaged
