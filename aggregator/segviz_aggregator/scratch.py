"""Local copies of blobs, each verified once, as it came. Disposable: all of it can be fetched again."""

import re
from collections.abc import Collection
from pathlib import Path

from segviz_exchange.codec import TensorFile, open_tensors
from segviz_exchange.store import Store, download

_OURS = re.compile(r"[0-9a-f]{64}(\.partial)?|merging")


class Scratch:
    """A folder that one process uses. What an earlier one left there is not trusted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.keep_only(())

    @property
    def merging(self) -> Path:
        """Where a merged model is written before its digest is known."""
        return self._folder / "merging"

    def adopt(self, digest: str) -> Path:
        """Give the file at `merging` its name."""
        return self.merging.rename(self._folder / digest)

    def fetch(self, store: Store, key: str, digest: str) -> TensorFile:
        """Raises NotFound, Corrupt or InvalidTensors."""
        return open_tensors(download(store, key, digest, self._folder))

    def keep_only(self, digests: Collection[str]) -> None:
        for path in self._folder.iterdir():
            # Only what can be ours: somebody may name a folder here that has a life of its own.
            if _OURS.fullmatch(path.name) and path.name not in digests:
                path.unlink()
