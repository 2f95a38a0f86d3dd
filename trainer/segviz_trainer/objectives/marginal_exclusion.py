"""Marginal and exclusion loss: where a site drew an organ, no other organ (and no background) can be.

Shi et al., Marginal loss and exclusion loss for partially supervised multi-organ segmentation (2021).
"""

import torch
from torch import Tensor

from segviz_exchange.contract.sharing import SHARED_HEAD
from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.objectives.deep_supervision import supervised
from segviz_trainer.objectives.marginal import Marginal
from segviz_trainer.objectives.soft_dice import dice_coefficient


class MarginalExclusion:
    def __init__(self, site_organs: tuple[str, ...], organs: tuple[str, ...]) -> None:
        self.marginal = Marginal(site_organs, organs)

    def __call__(self, model: SegNet, batch: Batch) -> Tensor:
        outputs = model.outputs(SHARED_HEAD, model.features(batch.image))
        return supervised(outputs, batch, self.of_logits)

    def of_logits(self, logits: Tensor, batch: Batch) -> Tensor:
        probabilities = torch.softmax(logits.float(), dim=1)
        channels = self.marginal.channels
        losses = [
            exclusion_loss(
                probabilities[row],
                batch.label[row],
                [0, *channels.unannotated(annotated)],
                None if batch.known is None else batch.known[row],
            )
            for row, annotated in enumerate(batch.annotated)
        ]
        return self.marginal.of_logits(logits, batch) + torch.stack(losses).mean()


def exclusion_loss(
    probabilities: Tensor, label: Tensor, excluded: list[int], known: Tensor | None = None
) -> Tensor:
    """mean_c Dice(p_c, E) + mean_c Σ E·log(p_c + 1) / ΣE over `excluded` channels c; E is where organs are.

    Of one case: `probabilities` (1 + organs, X, Y, Z), `label` and `known` (1, X, Y, Z). A patch without an
    organ voxel has nothing to exclude, and its second term is 0.
    """
    drawn = (label > 0).to(probabilities.dtype)  # (1, X, Y, Z)
    if known is not None:
        drawn = drawn * known
    others = probabilities[excluded]
    overlap = dice_coefficient(others[None], drawn[None], None if known is None else known[None]).mean()
    spilled = (drawn * torch.log(others + 1)).sum(dim=(1, 2, 3)) / drawn.sum().clamp_min(1)
    return overlap + spilled.mean()
