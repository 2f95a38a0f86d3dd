"""What to lower where the device's memory does not suffice."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segviz_exchange.contract.training_spec import Training
from segviz_exchange.process.errors import Refusal


@contextmanager
def naming_what_to_lower(training: Training) -> Iterator[None]:
    """Raises Refusal where torch runs out of the device's memory: it would, at every further try."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        patches = training.batch_size * training.crops_per_volume
        patch = "×".join(map(str, training.patch))
        held = (
            f" {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB were in use."
            if torch.cuda.is_available()
            else ""
        )
        raise Refusal(
            f"spec.training: a step of {patches} patches of {patch} does not fit into the device's memory."
            f"{held} Lower batchSize ({training.batch_size}) or cropsPerVolume ({training.crops_per_volume}) "
            "first, then the patch; or give the trainer a GPU with more memory that nothing else uses."
        ) from error
