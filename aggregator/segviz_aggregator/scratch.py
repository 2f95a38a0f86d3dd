"""Local copies of blobs, each verified once, as it came. Disposable: all of it can be fetched again."""

import re
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from segviz_exchange.contract import thin
from segviz_exchange.contract.choices import UpdatePrecision
from segviz_exchange.contract.codec import TensorFile, open_tensors
from segviz_exchange.stores.store import MAX_BLOB_BYTES, Store, download

_OURS = re.compile(r"[0-9a-f]{64}(\..*\.partial|\.whole)?|merging|stepping|state")


class Blob(NamedTuple):
    path: Path
    digest: str


class Scratch:
    """A folder that one process uses. What an earlier one left there is not trusted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, TensorFile] = {}
        self._whole: dict[str, TensorFile] = {}
        """Updates of changes, put together; by the digest of what came."""
        folder.mkdir(parents=True, exist_ok=True)
        self.keep_only(())

    @property
    def merging(self) -> Path:
        """Where a merged model is written before its digest is known."""
        return self._folder / "merging"

    @property
    def stepping(self) -> Path:
        """The same of what a server optimiser makes of it."""
        return self._folder / "stepping"

    @property
    def state(self) -> Path:
        """The same of that optimiser's state."""
        return self._folder / "state"

    def adopt(self, written: Path, digest: str) -> Blob:
        """Give a file at one of these places its name; it was hashed as it was written."""
        path = written.rename(self._folder / digest)
        self._files[digest] = open_tensors(path)
        return Blob(path, digest)

    def fetch(self, store: Store, key: str, digest: str, max_bytes: int = MAX_BLOB_BYTES) -> TensorFile:
        """Raises NotFound, Corrupt or InvalidTensors."""
        file = self._files.get(digest)
        if file is None or not file.path.exists():
            path = download(store, key, digest, self._folder, max_bytes, outlasts_power_cut=False)
            file = open_tensors(path)
            self._files[digest] = file
        return file

    def whole(self, file: TensorFile, base: TensorFile, against: str) -> TensorFile:
        """An update with all its values, whether it came so or as changes against `base`.

        Raises:
            InvalidTensors: it is against another model than the one with digest `against`, or malformed.
        """
        if thin.precision_of(file) is UpdatePrecision.FLOAT32:
            return file
        digest = file.path.name
        if digest not in self._whole:
            # Its own name, as another thread may be at the same update.
            partial = self._folder / f"{digest}.{secrets.token_hex(8)}.partial"
            thin.decode(file, base, against, partial)
            self._whole[digest] = open_tensors(partial.replace(self._folder / f"{digest}.whole"))
        return self._whole[digest]

    def keep_only(self, digests: Collection[str]) -> None:
        self._whole = {}
        self._files = {digest: file for digest, file in self._files.items() if digest in digests}
        for path in self._folder.iterdir():
            # Only what can be ours: somebody may name a folder here that has a life of its own.
            if _OURS.fullmatch(path.name) and path.name not in digests:
                path.unlink()
