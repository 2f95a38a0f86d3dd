"""ConDistFL (Wang et al., 2023): organs that a site did not annotate are learnt from the global model.

The teacher is the round's global model. Both models' probabilities are conditioned on "none of the annotated
organs", and only voxels that neither the label nor the teacher gives to an annotated organ take part.
"""

import torch
from torch import Tensor

from segviz_exchange.contract.sharing import SHARED_HEAD
from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.objectives.deep_supervision import supervised
from segviz_trainer.objectives.marginal import Marginal
from segviz_trainer.objectives.soft_dice import soft_dice

TEMPERATURE = 2.0
"""Where the manifest gives none."""
_FIRST_WEIGHT, _LAST_WEIGHT = 0.01, 1.0
_SMOOTH = 1e-5


class ConditionalDistillation:
    def __init__(
        self,
        site_organs: tuple[str, ...],
        organs: tuple[str, ...],
        teacher: SegNet,
        weight: float,
        temperature: float = TEMPERATURE,
    ) -> None:
        self.marginal = Marginal(site_organs, organs)
        self.teacher = teacher
        """In eval mode; its BatchNorm under FedBN is the site's own."""
        self.weight = weight
        self.temperature = temperature

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
        losses = [
            distillation_loss(
                logits[row].float(),
                taught[row].float(),
                batch.label[row],
                self.marginal.channels.annotated(annotated),
                self.temperature,
                None if batch.known is None else batch.known[row],
            )
            for row, annotated in enumerate(batch.annotated)
        ]
        return torch.stack(losses).mean()


def distillation_weight(round_: int, rounds: int) -> float:
    """w_r = 0.01 + 0.99·r / (R − 1), r from 0; 1 in the last round, and in fine-tuning after it."""
    if round_ >= rounds - 1:
        return _LAST_WEIGHT
    return _FIRST_WEIGHT + (_LAST_WEIGHT - _FIRST_WEIGHT) * round_ / (rounds - 1)


def distillation_loss(
    logits: Tensor,
    taught: Tensor,
    label: Tensor,
    channels: dict[int, int],
    temperature: float,
    known: Tensor | None = None,
) -> Tensor:
    """Of one case: `logits` and `taught` (1 + organs, X, Y, Z), `label` and `known` (1, X, Y, Z)."""
    annotated = list(channels.values())
    learnt = conditioned(torch.softmax(logits / temperature, dim=0), annotated)
    teacher = conditioned(torch.softmax(taught / temperature, dim=0), annotated)
    free = ~torch.isin(taught.argmax(dim=0, keepdim=True), torch.tensor(annotated, device=taught.device))
    free &= ~torch.isin(label, torch.tensor(list(channels), dtype=label.dtype, device=label.device))
    mask = free.to(logits.dtype)
    if known is not None:
        mask = mask * known
    return soft_dice(learnt[None], teacher[None], mask[None])


def conditioned(probabilities: Tensor, annotated: list[int]) -> Tensor:
    """Background and each unannotated organ, given that it is no annotated one: (1 + |U|, X, Y, Z)."""
    others = [channel for channel in range(len(probabilities)) if channel not in annotated]
    rest = 1 - probabilities[annotated].sum(dim=0, keepdim=True)
    return probabilities[others] / (rest + _SMOOTH)
