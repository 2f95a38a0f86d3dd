"""The marginal loss: one softmax over all organs; those nobody annotated in a case count as background.

Shi et al., Marginal loss and exclusion loss for partially supervised multi-organ segmentation (2021).
Probabilities are summed first, then the logarithm is taken.
"""

import torch
from torch import Tensor

from segviz_exchange.contract.sharing import SHARED_HEAD
from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.objectives.deep_supervision import supervised
from segviz_trainer.objectives.partial_labels import Channels, merge_unannotated
from segviz_trainer.objectives.soft_dice import soft_dice

_LEAST = 1e-4
"""A voxel that is surely wrong costs −log of this, and no more."""


class Marginal:
    def __init__(self, site_organs: tuple[str, ...], organs: tuple[str, ...]) -> None:
        self.channels = Channels(site_organs, organs)

    def __call__(self, model: SegNet, batch: Batch) -> Tensor:
        outputs = model.outputs(SHARED_HEAD, model.features(batch.image))
        return supervised(outputs, batch, self.of_logits)

    def of_logits(self, logits: Tensor, batch: Batch) -> Tensor:
        """`logits` (B, 1 + organs, X, Y, Z), whatever network they come from."""
        probabilities = torch.softmax(logits.float(), dim=1)
        losses = [
            marginal_loss(
                probabilities[row],
                batch.label[row, 0],
                self.channels.annotated(annotated),
                None if batch.known is None else batch.known[row],
            )
            for row, annotated in enumerate(batch.annotated)
        ]
        return torch.stack(losses).mean()


def marginal_loss(
    probabilities: Tensor, label: Tensor, channels: dict[int, int], known: Tensor | None = None
) -> Tensor:
    """Of one case: `probabilities` (1 + organs, X, Y, Z), `label` (X, Y, Z), `known` (1, X, Y, Z)."""
    merged, truth = merge_unannotated(probabilities, label, channels)
    surprise = -(truth * torch.log(merged.clamp_min(_LEAST))).sum(dim=0, keepdim=True)
    if known is None:
        return soft_dice(merged[None], truth[None]) + surprise.mean()
    cross_entropy = (surprise * known).sum() / known.sum().clamp_min(1)
    return soft_dice(merged[None], truth[None], known[None]) + cross_entropy
