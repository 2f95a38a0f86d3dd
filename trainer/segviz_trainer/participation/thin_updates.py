"""A site's updates on a thin line: what the rounding of one leaves over is kept for the next.

It lies on the site's disk before the update is uploaded, by round and attempt: whoever starts again there
rounds the same numbers to the same bytes.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from segviz_exchange.contract import codec, thin
from segviz_exchange.contract.choices import UpdatePrecision
from segviz_exchange.contract.codec import Array
from segviz_trainer.network.tensors import save_whole

Release = tuple[int, int]
"""Round and attempt."""
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class ThinUpdates:
    precision: UpdatePrecision
    folder: Path
    """On the site's own disk."""
    rejections: Callable[[int], int]
    """How many of this site's attempts at a round were rejected."""

    def write(
        self,
        path: Path,
        release: Release,
        values: Mapping[str, Array],
        parameters: Collection[str],
        base: thin.Base,
    ) -> str:
        """Write the update of `release` to `path`, the same bytes whenever it is asked for.

        Args:
            values: what the site sends, clipped and noisy already where it wants that.
            parameters: names of those that may travel as changes.
            base: the round's model.

        Returns:
            The sha256 of the file.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        before = self._before(release)
        late = {} if before is None else codec.open_tensors(self._file(before)).read_all()
        digest, left_over = thin.encode(path, values, parameters, base, late, self.precision)
        save_whole(self._file(release), left_over)
        for other in self._releases():
            if other not in (before, release):
                self._file(other).unlink(missing_ok=True)
        return digest

    def _before(self, release: Release) -> Release | None:
        """The newest update of an earlier round that was not rejected: of others nothing is owed."""
        earlier = [each for each in self._releases() if each[0] < release[0]]
        return next((each for each in reversed(earlier) if each[1] > self.rejections(each[0])), None)

    def _releases(self) -> list[Release]:
        names = [path.name.removesuffix(_SUFFIX).split("-") for path in self.folder.glob(f"*{_SUFFIX}")]
        return sorted((int(round_), int(attempt)) for round_, attempt in names)

    def _file(self, release: Release) -> Path:
        return self.folder / f"{release[0]:04d}-{release[1]}{_SUFFIX}"
