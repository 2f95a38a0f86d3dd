"""Where and how the arithmetic of a model runs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from segviz_exchange.contract import choices, training_spec
from segviz_exchange.contract.records import Environment
from segviz_trainer.network.segnet import SegNet


@dataclass(frozen=True)
class Device:
    """Where and how the arithmetic runs: part of what an update's bits depend on."""

    place_at: torch.device
    training: training_spec.Training

    @classmethod
    def choose(cls, training: training_spec.Training) -> "Device":
        """A GPU where there is one."""
        return cls(torch.device("cuda" if torch.cuda.is_available() else "cpu"), training)

    def settle(self) -> "Device":
        """Make torch compute so, in this whole process."""
        torch.set_num_threads(self.training.threads)
        # Not use_deterministic_algorithms, which does the same and imports torch's compiler, for seconds.
        torch.set_deterministic_debug_mode(self._determinism)
        if self.training.tf32 is not None:
            allowed = self.training.tf32 is choices.Tf32.ALLOWED
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
        if self.place_at.type == "cuda":
            # Else it chooses among algorithms by timing them, and the bytes are those of the winner.
            torch.backends.cudnn.benchmark = self.training.determinism is choices.Determinism.FASTEST
        # A debugging aid of that mode: it fills fresh memory with NaN, a tenth of a step (bench/train.py).
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        return self

    @property
    def _determinism(self) -> str:
        """torch's word for it. A CPU has a deterministic way for all that we ask of it."""
        if self.place_at.type == "cpu":
            return "error"
        modes = {choices.Determinism.STRICT: "error", choices.Determinism.FASTEST: "default", None: "warn"}
        return modes[self.training.determinism]

    @property
    def memory_format(self) -> torch.memory_format:
        channels_last = self.training.memory_format is choices.MemoryFormat.CHANNELS_LAST_3D
        return torch.channels_last_3d if channels_last else torch.contiguous_format

    @property
    def precision(self) -> choices.Precision:
        """The manifest's, or FP32 where BF16 would be emulated, number by number: ten times as slow."""
        return self.training.precision if _has_bf16(self.place_at) else choices.Precision.FP32

    def autocast(self) -> torch.autocast:
        bf16 = self.precision is choices.Precision.BF16
        return torch.autocast(self.place_at.type, dtype=torch.bfloat16, enabled=bf16)

    def move(self, net: SegNet) -> SegNet:
        return net.to(self.place_at).to(memory_format=self.memory_format)

    def stage(self, tensor: Tensor) -> Tensor:
        """Where a GPU fetches it from by itself, while the processor goes on; on a CPU or a GPU it stays."""
        fetched = self.place_at.type == "cuda" and tensor.device.type == "cpu"
        return tensor.pin_memory() if fetched else tensor

    def place(self, image: Tensor) -> Tensor:
        placed = image.to(self.place_at, non_blocking=True)
        return placed.contiguous(memory_format=self.memory_format)

    def environment(self) -> Environment:
        return Environment(
            torch=str(torch.__version__),
            device=torch.cuda.get_device_name() if self.place_at.type == "cuda" else "cpu",
            precision=self.precision,
            memory_format=self.training.memory_format,
            threads=self.training.threads,
        )


def _has_bf16(place: torch.device) -> bool:
    """On a CPU oneDNN needs AVX-512 (or Arm's BF16); else torch computes in loops that are not vectorised."""
    if place.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # torch has no public name for it
