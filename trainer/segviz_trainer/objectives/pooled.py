"""Central's: Dice loss of one softmax over all organs; what a case does not annotate counts as background.

The paper's lower bound. Every case of one organ teaches that the others are background there, which is the
mistake that the marginal loss mends. The lesson is background's term alone: the Dice term of an organ that
the label lacks is nearly 1 whatever is predicted, and has nearly no gradient.
"""

import torch
from torch import Tensor

from segviz_exchange.contract.sharing import SHARED_HEAD
from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.objectives.deep_supervision import supervised
from segviz_trainer.objectives.partial_labels import Channels, merge_unannotated
from segviz_trainer.objectives.soft_dice import soft_dice


class Pooled:
    def __init__(self, site_organs: tuple[str, ...], organs: tuple[str, ...]) -> None:
        self.every = Channels(site_organs, organs).annotated(frozenset(range(len(site_organs))))

    def __call__(self, model: SegNet, batch: Batch) -> Tensor:
        outputs = model.outputs(SHARED_HEAD, model.features(batch.image))
        return supervised(outputs, batch, self.of_logits)

    def of_logits(self, logits: Tensor, batch: Batch) -> Tensor:
        probabilities = torch.softmax(logits.float(), dim=1)
        losses = []
        for row in range(len(probabilities)):
            merged, truth = merge_unannotated(probabilities[row], batch.label[row, 0], self.every)
            known = None if batch.known is None else batch.known[row][None]
            losses.append(soft_dice(merged[None], truth[None], known))
        return torch.stack(losses).mean()
