"""Which tensor of a model goes where: the algorithms' difference, in one place.

A tensor's block is `representation` or a head; its kind says whether a BatchNorm module owns it. Both are
read from the model by module type (never by name) where torch is, and travel in round 0's metadata.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from segviz_exchange.contract.choices import AlgorithmName
from segviz_exchange.contract.records import Control

if TYPE_CHECKING:
    # For its type alone; the operator, which reads no tensor, is spared numpy.
    from segviz_exchange.contract.codec import TensorInfo

REPRESENTATION = "representation"
SHARED_HEAD = "_all"
"""Name of the one multi-organ head; no organ can be called so."""

PARAMETER = "parameter"
NORM = "norm"
COUNTER = "counter"
"""BatchNorm's num_batches_tracked: an integer, never averaged, never sent."""
KINDS = (PARAMETER, NORM, COUNTER)


GROUPS = "groups"
"""Under this key the metadata of round 0's file holds `encode_groups`."""


class TensorGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    block: str
    """`representation`, or the organ (or `_all`) whose head this is."""
    kind: str


Groups = Mapping[str, TensorGroup]


def encode_groups(groups: Groups) -> str:
    return json.dumps({name: [group.block, group.kind] for name, group in sorted(groups.items())})


def decode_groups(text: str) -> dict[str, TensorGroup]:
    decoded = msgspec.json.decode(text, type=dict[str, tuple[str, str]])
    return {name: TensorGroup(block, kind) for name, (block, kind) in decoded.items()}


def contributors(group: TensorGroup, control: Control) -> tuple[str, ...]:
    """The sites whose values of a tensor are averaged, by alias; none where it stays at home.

    Local shares nothing. FedBN keeps what a BatchNorm module owns, in heads too. A head with one owner never
    leaves it; a head with several owners is averaged over them; the multi-organ head over all. Central's one
    site shares all it has, so its model is the global one.
    """
    algorithm = control.spec.algorithm.name
    if algorithm is AlgorithmName.LOCAL or group.kind == COUNTER:
        return ()
    if algorithm is AlgorithmName.FED_BN and group.kind == NORM:
        return ()
    if group.block in (REPRESENTATION, SHARED_HEAD):
        return control.active
    owners = control.owners(group.block)
    return owners if len(owners) > 1 else ()


def shared_by(site: str, groups: Groups, control: Control) -> tuple[str, ...]:
    """Names of the tensors that a site uploads in a round, sorted."""
    return tuple(name for name, group in sorted(groups.items()) if site in contributors(group, control))


def with_organs(
    infos: "Mapping[str, TensorInfo]", groups: Groups, organs: tuple[str, ...]
) -> "tuple[dict[str, TensorInfo], dict[str, TensorGroup]]":
    """Schema and groups for organs that joined after round 0: every head has the shape of every other."""
    heads = sorted({group.block for group in groups.values()} - {REPRESENTATION, SHARED_HEAD})
    all_infos, all_groups = dict(infos), dict(groups)
    for organ in sorted(set(organs) - set(heads)) if heads else ():
        for name, group in groups.items():
            if group.block == heads[0]:
                own = name.replace(f"heads.{heads[0]}.", f"heads.{organ}.", 1)
                all_infos[own] = infos[name]
                all_groups[own] = TensorGroup(organ, group.kind)
    return all_infos, all_groups
