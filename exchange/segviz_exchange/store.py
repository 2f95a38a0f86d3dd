"""What every object store must do for a federation, and how one is opened.

Records are created once and never changed; blobs are named by their content, so writing one again changes
nothing; heartbeats alone are overwritten. Two stores keep this contract: a folder and S3.
"""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from segviz_exchange.errors import Refusal

CHUNK_BYTES = 1 << 20


class StoreError(Exception):
    """A store said no, or said nothing."""


class NotFound(StoreError):
    """No object has this key."""


class AlreadyExists(StoreError):
    """A create met an object under the same key: somebody, maybe an earlier self, was first."""


class Unavailable(StoreError):
    """The store did not answer, or asked to come again. Worth trying later."""


class Denied(StoreError):
    """The credentials do not allow this, or have expired."""


@dataclass(frozen=True)
class Entry:
    key: str
    size_bytes: int
    modified: datetime
    """By the store's clock, in UTC."""


class Store(Protocol):
    """Keys are slash-separated and relative to the store's root."""

    def create(self, key: str, data: bytes) -> None:
        """Write an object that must not exist yet, whole or not at all.

        Raises:
            AlreadyExists: the key is taken; of two racing creates exactly one raises this.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write an object, replacing what is there. For heartbeats."""

    def upload(self, key: str, path: Path) -> None:
        """Write a blob from a file of any size. Its key names its content, so a replaced one is equal."""

    def get(self, key: str) -> bytes:
        """Raises NotFound."""

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """A stream over a large object, to be read forwards. Raises NotFound."""

    def list(self, prefix: str) -> list[Entry]:
        """Objects whose keys start with `prefix`, sorted by key."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""

    def now(self) -> datetime:
        """The store's clock, the one that `Entry.modified` is read from. UTC."""

    def scoped(self, prefix: str) -> "Store":
        """The same store, its root moved down by `prefix` (which ends with a slash)."""


def check_key(key: str) -> None:
    """Refuse what a store could read as another key, or as a place outside itself.

    Raises:
        StoreError: an empty part (so also a slash at either end), `.` or `..`.
    """
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise StoreError(f"{key!r} cannot be a key")


def open_store(url: str) -> Store:
    """Open `s3://HOST[:PORT]/BUCKET[/PREFIX]` (TLS), `s3+http://…` (plain) or a folder's path.

    S3 credentials come from the environment, else from an AWS credentials file.
    """
    scheme = urlsplit(url).scheme
    if scheme in ("s3", "s3+http"):
        from segviz_exchange.s3 import S3Store

        return S3Store.from_url(url)
    if scheme in ("", "file"):
        from segviz_exchange.folder import FolderStore

        return FolderStore(Path(url.removeprefix("file://")))
    raise Refusal(
        f"store {url!r}: {scheme!r} is no kind of store. Use a folder, s3://HOST/BUCKET or s3+http://HOST/BUCKET."
    )


def read_chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


class Corrupt(StoreError):
    """What was read does not have the digest it was pinned with."""


def download(store: Store, key: str, digest: str, folder: Path) -> Path:
    """A blob as a local file named by its digest, hashed while it flows; a file already there is trusted.

    Raises:
        NotFound: there is no such blob.
        Corrupt: the bytes are not the ones that `digest` pins.
    """
    target = folder / digest
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{digest}.partial"
    sha256 = hashlib.sha256()
    with store.open(key) as stream, partial.open("wb") as file:
        for chunk in read_chunks(stream):
            sha256.update(chunk)
            file.write(chunk)
    if sha256.hexdigest() != digest:
        partial.unlink()
        raise Corrupt(f"{key}: its bytes hash to {sha256.hexdigest()[:12]}…, its record says {digest[:12]}…")
    partial.rename(target)
    return target
