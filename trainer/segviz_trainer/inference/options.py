"""How a finished model predicts: the manifest's choices, or those of whoever runs it."""

from dataclasses import dataclass
from itertools import combinations

from segviz_exchange.contract.spec import FederationSpec


@dataclass(frozen=True)
class InferenceOptions:
    overlap: float
    """Of neighbouring windows, as a share of the patch."""
    mirrored: tuple[int, ...] = ()
    """Axes (0 to 2) along which each window is also seen mirrored; the mean over all flips counts."""
    largest: tuple[str, ...] = ()
    """Organs of which the largest connected component alone stays."""

    @classmethod
    def of(cls, federation: FederationSpec) -> "InferenceOptions":
        asked, transforms = federation.evaluation, federation.training.transforms
        mirrored = transforms.mirrored_axes if asked.mirroring and transforms else ()
        return cls(asked.overlap, mirrored, asked.largest_component)

    @property
    def flips(self) -> tuple[tuple[int, ...], ...]:
        """All combinations of the mirrored axes, none of them first: 2, 4 or 8."""
        counts = range(len(self.mirrored) + 1)
        return tuple(chosen for count in counts for chosen in combinations(self.mirrored, count))
