"""`spec.training` of a SegVizFederation: loss, optimizer, schedule, batches and what is done to them."""

from segviz_exchange.contract.choices import (
    Augmentation,
    Axis,
    Determinism,
    HeadLoss,
    MemoryFormat,
    OptimizerName,
    OptimizerState,
    Precision,
    ScheduleName,
    Tf32,
)
from segviz_exchange.contract.part import Part


class Optimizer(Part, frozen=True):
    name: OptimizerName = OptimizerName.ADAM
    momentum: float | None = None
    """Of SGD, with Nesterov's look ahead. Left out, the trainer's."""
    weight_decay: float | None = None
    """Left out, each optimizer has its own (segviz_trainer.training.optimizer)."""


class Schedule(Part, frozen=True):
    name: ScheduleName = ScheduleName.COSINE
    warmup_epochs: int = 0
    """Epochs of the whole federation in which the learning rate rises before it falls."""


class Rotation(Part, frozen=True):
    probability: float | None = None
    degrees: tuple[float, float, float] | None = None
    """The farthest to either side, about R, A and S."""


class Varied(Part, frozen=True):
    """A transform by a number from a range; what is left out is the trainer's (batches/augment.py)."""

    probability: float | None = None
    range: tuple[float, float] | None = None


class Mirroring(Part, frozen=True):
    axes: tuple[Axis, ...]


class Transforms(Part, frozen=True):
    """Each of a patch, by chance; none where it is left out."""

    rotation: Rotation | None = None
    scaling: Varied | None = None
    noise: Varied | None = None
    blur: Varied | None = None
    brightness: Varied | None = None
    contrast: Varied | None = None
    low_resolution: Varied | None = None
    gamma: Varied | None = None
    inverted_gamma: Varied | None = None
    mirroring: Mirroring | None = None

    @property
    def mirrored_axes(self) -> tuple[int, ...]:
        """Indices of the voxel axes, whatever the order they are written in."""
        asked = self.mirroring.axes if self.mirroring else ()
        return tuple(index for index, axis in enumerate(Axis) if axis in asked)


class Training(Part, frozen=True):
    patch: tuple[int, int, int]
    crops_per_volume: int
    batch_size: int
    """Volumes in a batch; the network sees batch_size × crops_per_volume patches."""
    learning_rate: float
    augmentation: Augmentation
    optimizer_state: OptimizerState
    precision: Precision
    memory_format: MemoryFormat
    threads: int
    loss: HeadLoss = HeadLoss.DICE
    """Of a head per organ; other objectives have losses of their own."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    max_gradient_norm: float | None = None
    """L2 norm that the gradient of all parameters is scaled down to; not at all, where it is left out."""
    foreground_share: float = 0.5
    """Of the crops, those whose centre is a voxel of an organ."""
    transforms: Transforms | None = None
    """For augmentation Custom only."""
    tf32: Tf32 | None = None
    """Of FP32 arithmetic on a GPU; torch's own choice where it is left out."""
    determinism: Determinism | None = None
    """On a GPU; where it is left out, what has no deterministic way is told of and computed all the same."""
