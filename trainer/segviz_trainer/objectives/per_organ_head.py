"""The paper's: the loss of each annotated organ's own 2-channel softmax, averaged over the organs."""

import torch
from torch import Tensor

from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network.segnet import Features, SegNet
from segviz_trainer.objectives.head_loss import OfLogits, dice


class PerOrganHead:
    def __init__(self, site_organs: tuple[str, ...], of_logits: OfLogits = dice) -> None:
        self.organs = site_organs
        self.of_logits = of_logits

    def __call__(self, model: SegNet, batch: Batch) -> Tensor:
        features = model.features(batch.image)
        losses = []
        for index, organ in enumerate(self.organs):
            # Each case carries its own organ list: a batch may mix data sets with different organs.
            rows = [row for row, annotated in enumerate(batch.annotated) if index in annotated]
            if not rows:
                continue
            logits = model.head(organ, _select(features, rows, len(batch.annotated)))  # (b, 2, X, Y, Z)
            inside = (batch.label[rows] == index + 1).float()
            known = None if batch.known is None else batch.known[rows]
            truth = torch.cat([1 - inside, inside], dim=1)
            losses.append(self.of_logits(logits, truth, known))
        return torch.stack(losses).mean()


def _select(features: Features, rows: list[int], size: int) -> Features:
    if len(rows) == size:
        return features
    skips, hidden = features
    return [skip[rows] for skip in skips], hidden[rows]
