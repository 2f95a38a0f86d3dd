"""Pseudo-labels (Lee, 2013): organs that a site did not annotate are labelled by the global model.

The teacher is the round's global model. Where the site drew an organ, its label holds. Elsewhere the
teacher's class does, if the teacher is confident and does not take the voxel for an organ that the site
would have drawn; all other voxels are left out.
"""

import torch
from torch import Tensor

from segviz_exchange.contract.sharing import SHARED_HEAD
from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.objectives.deep_supervision import supervised
from segviz_trainer.objectives.marginal import Marginal
from segviz_trainer.objectives.soft_dice import soft_dice

CONFIDENCE = 0.9
"""Where the manifest gives none."""


class PseudoLabels:
    def __init__(
        self,
        site_organs: tuple[str, ...],
        organs: tuple[str, ...],
        teacher: SegNet,
        weight: float,
        confidence: float = CONFIDENCE,
    ) -> None:
        self.marginal = Marginal(site_organs, organs)
        self.teacher = teacher
        """In eval mode; its BatchNorm under FedBN is the site's own."""
        self.weight = weight
        self.confidence = confidence

    def __call__(self, model: SegNet, batch: Batch) -> Tensor:
        with torch.no_grad():
            taught = self.teacher.head(SHARED_HEAD, self.teacher.features(batch.image))
        outputs = model.outputs(SHARED_HEAD, model.features(batch.image))
        # The teacher is asked at full resolution alone: its coarser logits are no predictions of anybody's.
        return supervised(outputs, batch, self.marginal.of_logits) + self.weight * self._taught(
            outputs[0], taught, batch
        )

    def _taught(self, logits: Tensor, taught: Tensor, batch: Batch) -> Tensor:
        """Both (B, 1 + organs, X, Y, Z)."""
        losses = []
        for row, annotated in enumerate(batch.annotated):
            channels = self.marginal.channels.annotated(annotated)
            target, counts = completed(taught[row].float(), batch.label[row, 0], channels, self.confidence)
            if batch.known is not None:
                counts = counts * batch.known[row, 0]
            losses.append(pseudo_loss(logits[row].float(), target, counts))
        return torch.stack(losses).mean()


def completed(
    taught: Tensor, label: Tensor, channels: dict[int, int], confidence: float
) -> tuple[Tensor, Tensor]:
    """The channel that each voxel belongs to, and 1 where that is known well enough, else 0: (X, Y, Z).

    Args:
        taught: the teacher's logits, (1 + organs, X, Y, Z).
        label: (X, Y, Z), of the site.
        channels: which channel each annotated label value belongs to.
        confidence: the least probability of the teacher's class that counts.
    """
    chance, target = torch.softmax(taught, dim=0).max(dim=0)
    drawn = torch.zeros_like(target)
    for value, channel in channels.items():
        drawn = torch.where(label == value, channel, drawn)
    annotated = torch.tensor(list(channels.values()), device=target.device)
    sure = (chance >= confidence) & ~torch.isin(target, annotated)
    return torch.where(drawn > 0, drawn, target), ((drawn > 0) | sure).float()


def pseudo_loss(logits: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Dice and cross-entropy of one case over the voxels that count; 0 where none does.

    Args:
        logits: (1 + organs, X, Y, Z).
        target: (X, Y, Z), a channel each; `counts` the same, 0 or 1.
    """
    log = torch.log_softmax(logits, dim=0)
    truth = torch.zeros_like(log).scatter_(0, target[None], 1.0)
    surprise = -(truth * log).sum(dim=0)
    cross_entropy = (surprise * counts).sum() / counts.sum().clamp_min(1)
    return soft_dice(log.exp()[None], truth[None], counts[None, None]) + cross_entropy
