"""What local training minimises: from logits and partial labels to one number."""

from collections.abc import Mapping
from typing import Protocol

import torch
from monai.losses.dice import DiceLoss
from torch import Tensor

from segviz_exchange.sharing import SHARED_HEAD
from segviz_exchange.spec import Objective
from segviz_trainer.model import SegNet
from segviz_trainer.sampling import Batch


class Loss(Protocol):
    def __call__(self, model: SegNet, batch: Batch) -> Tensor:
        """A scalar, in float32, whatever the autocast."""


class PerOrganHead:
    """The paper's: Dice loss of each annotated organ's own 2-channel softmax, averaged over the organs."""

    def __init__(self, site_organs: tuple[str, ...]) -> None:
        self.organs = site_organs
        self.dice = DiceLoss(softmax=True, to_onehot_y=True)

    def __call__(self, model: SegNet, batch: Batch) -> Tensor:
        features = model.features(batch.image)
        losses = []
        for index, organ in enumerate(self.organs):
            # Each case carries its own organ list: a batch may mix data sets with different organs.
            rows = [row for row, annotated in enumerate(batch.organs) if index in annotated]
            if not rows:
                continue
            logits = model.head(organ, _select(features, rows, len(batch.organs)))  # (b, 2, X, Y, Z)
            truth = batch.label[rows] == index + 1
            losses.append(self.dice(logits.float(), truth.float()))
        return torch.stack(losses).mean()


class Marginal:
    """One softmax over all organs; channels nobody annotated in a case are merged into background.

    Shi et al., Marginal loss and exclusion loss for partially supervised multi-organ segmentation (2021).
    Probabilities are summed first, then the logarithm is taken.
    """

    def __init__(self, site_organs: tuple[str, ...], organs: tuple[str, ...]) -> None:
        self.channels = [1 + organs.index(organ) for organ in site_organs]
        self.dice = DiceLoss()

    def __call__(self, model: SegNet, batch: Batch) -> Tensor:
        logits = model.head(SHARED_HEAD, model.features(batch.image)).float()
        probabilities = torch.softmax(logits, dim=1)  # (B, 1 + organs, X, Y, Z)
        losses = [
            self._of_case(probabilities[row], batch.label[row, 0], annotated)
            for row, annotated in enumerate(batch.organs)
        ]
        return torch.stack(losses).mean()

    def _of_case(self, probabilities: Tensor, label: Tensor, annotated: frozenset[int]) -> Tensor:
        values = {1 + index: self.channels[index] for index in sorted(annotated)}
        merged, truth = merge_unannotated(probabilities, label, values)
        cross_entropy = -(truth * torch.log(merged.clamp_min(1e-4))).sum(dim=0).mean()
        dice: Tensor = self.dice(merged[None], truth[None])
        return dice + cross_entropy


def merge_unannotated(
    probabilities: Tensor, label: Tensor, channels: Mapping[int, int]
) -> tuple[Tensor, Tensor]:
    """Add the probability of unannotated organs to background, on prediction and truth alike.

    Args:
        probabilities: (1 + organs, X, Y, Z), summing to one over the first axis.
        label: (X, Y, Z), 0 for background.
        channels: which channel each annotated label value belongs to.

    Returns:
        Merged probabilities and one-hot truth, both (1 + len(channels), X, Y, Z).
    """
    foreground = list(channels.values())
    rest = [channel for channel in range(len(probabilities)) if channel not in foreground]
    background = probabilities[rest].sum(dim=0, keepdim=True)
    truth = torch.stack([label == value for value in channels]).to(probabilities.dtype)
    empty = 1 - truth.sum(dim=0, keepdim=True)
    return torch.cat([background, probabilities[foreground]]), torch.cat([empty, truth])


def build_loss(objective: Objective, site_organs: tuple[str, ...], organs: tuple[str, ...]) -> Loss:
    """The loss of a site whose label values are 1 + the index in `site_organs`."""
    if objective is Objective.PER_ORGAN_HEAD:
        return PerOrganHead(site_organs)
    return Marginal(site_organs, organs)


def proximal_term(model: SegNet, anchor: Mapping[str, Tensor], mu: float) -> Tensor:
    """FedProx (Li et al., 2020, eq. 2): (mu/2)·‖w − w_global‖² over the shared parameters."""
    named = dict(model.named_parameters())
    squares = [(named[name] - value).pow(2).sum() for name, value in anchor.items()]
    return mu / 2 * torch.stack(squares).sum()


def _select(features: tuple[list[Tensor], Tensor], rows: list[int], size: int) -> tuple[list[Tensor], Tensor]:
    if len(rows) == size:
        return features
    skips, hidden = features
    return [skip[rows] for skip in skips], hidden[rows]
