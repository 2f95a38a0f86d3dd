"""The objectives by name: from a manifest to the loss of one site in one round.

A new one is a file in `objectives/` and a line here. A loss takes logits and partial labels to one number.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from segviz_exchange.contract.choices import AlgorithmName, Objective
from segviz_exchange.contract.spec import FederationSpec
from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.objectives.conditional_distillation import (
    TEMPERATURE,
    ConditionalDistillation,
    distillation_weight,
)
from segviz_trainer.objectives.head_loss import HEAD_LOSSES
from segviz_trainer.objectives.marginal import Marginal
from segviz_trainer.objectives.marginal_exclusion import MarginalExclusion
from segviz_trainer.objectives.per_organ_head import PerOrganHead
from segviz_trainer.objectives.pooled import Pooled
from segviz_trainer.objectives.pseudo_labels import CONFIDENCE, PseudoLabels


class Loss(Protocol):
    def __call__(self, model: SegNet, batch: Batch) -> Tensor:
        """A scalar, in float32, whatever the autocast."""


@dataclass(frozen=True)
class Setting:
    """What a loss is built from."""

    spec: FederationSpec
    site_organs: tuple[str, ...]
    """Label values are 1 + the index in these."""
    organs: tuple[str, ...]
    """What the network has heads or channels for."""
    round: int
    """Of the global model that training starts from, from 0."""
    model: SegNet
    """Holding that global model; what needs it later takes a copy."""


def _distillation(setting: Setting) -> Loss:
    given = setting.spec.distillation
    weight = distillation_weight(setting.round, setting.spec.rounds)
    temperature = TEMPERATURE if given is None else given.temperature
    teacher = _teacher(setting)
    return ConditionalDistillation(setting.site_organs, setting.organs, teacher, weight, temperature)


def _pseudo_labels(setting: Setting) -> Loss:
    given = setting.spec.pseudo_labels
    weight = distillation_weight(setting.round, setting.spec.rounds)
    confidence = CONFIDENCE if given is None else given.confidence
    return PseudoLabels(setting.site_organs, setting.organs, _teacher(setting), weight, confidence)


def _teacher(setting: Setting) -> SegNet:
    return copy.deepcopy(setting.model).eval().requires_grad_(False)


_OBJECTIVES: Mapping[Objective, Callable[[Setting], Loss]] = {
    Objective.PER_ORGAN_HEAD: lambda setting: PerOrganHead(
        setting.site_organs, HEAD_LOSSES[setting.spec.training.loss]
    ),
    Objective.MARGINAL: lambda setting: Marginal(setting.site_organs, setting.organs),
    Objective.MARGINAL_EXCLUSION: lambda setting: MarginalExclusion(setting.site_organs, setting.organs),
    Objective.CONDITIONAL_DISTILLATION: _distillation,
    Objective.PSEUDO_LABELS: _pseudo_labels,
}

_CENTRAL: Mapping[AlgorithmName, Callable[[Setting], Loss]] = {
    AlgorithmName.CENTRAL: lambda setting: Pooled(setting.site_organs, setting.organs),
    AlgorithmName.CENTRAL_MARGINAL: lambda setting: Marginal(setting.site_organs, setting.organs),
}
"""Algorithms that bring their own."""


def build_loss(setting: Setting) -> Loss:
    spec = setting.spec
    build = _CENTRAL.get(spec.algorithm.name) or _OBJECTIVES[spec.objective]
    return build(setting)
