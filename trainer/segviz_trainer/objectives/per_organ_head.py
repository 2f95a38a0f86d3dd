"""The paper's: the loss of each annotated organ's own 2-channel softmax, averaged over the organs."""

from functools import partial

import torch
from torch import Tensor

from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network.segnet import Features, SegNet
from segviz_trainer.objectives.deep_supervision import supervised
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
            outputs = model.outputs(organ, _select(features, rows, len(batch.annotated)))
            losses.append(supervised(outputs, _rows(batch, rows), partial(self._of_organ, index)))
        return torch.stack(losses).mean()

    def _of_organ(self, index: int, logits: Tensor, batch: Batch) -> Tensor:
        """`logits` (b, 2, X, Y, Z) of the rows in `batch`."""
        inside = (batch.label == index + 1).float()
        return self.of_logits(logits, torch.cat([1 - inside, inside], dim=1), batch.known)


def _select(features: Features, rows: list[int], size: int) -> Features:
    if len(rows) == size:
        return features
    return Features([skip[rows] for skip in features.skips], [each[rows] for each in features.decoded])


def _rows(batch: Batch, rows: list[int]) -> Batch:
    known = None if batch.known is None else batch.known[rows]
    annotated = tuple(batch.annotated[row] for row in rows)
    return Batch(batch.image, batch.label[rows], annotated, known)
