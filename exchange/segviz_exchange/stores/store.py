"""What every object store must do for a federation.

Records are created once and never changed; blobs are named by their content, so writing one again changes
nothing; heartbeats alone are overwritten. Two stores keep this contract: a folder and S3.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

CHUNK_BYTES = 1 << 20
MAX_OBJECT_BYTES = 16 << 20
"""What `get` reads at most. The largest records are a site's scores of a hundred thousand cases."""
MAX_BLOB_BYTES = 4 << 30
"""What `download` fetches where its caller expects no size: a thousand million float32."""

MAX_LISTED = 200_000
"""Objects in one listing. Eight sites need 24 for a round."""
LISTING_SECONDS = 60.0
"""How long one listing may take."""


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


class TooLarge(StoreError):
    """An object is larger than anything that is read whole."""


class Endless(StoreError):
    """A folder has more objects than anybody looks at, or its listing does not end."""

    def __init__(self, prefix: str, why: str, entries: "list[Entry]") -> None:
        super().__init__(f"{prefix or 'the prefix'} {why}; it is not looked at. Delete what is not needed")
        self.entries = entries
        """Those that were listed until then."""


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
        """A small object, whole. Raises NotFound, or TooLarge above MAX_OBJECT_BYTES."""

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """A stream over a large object, to be read forwards. Raises NotFound."""

    def list(self, prefix: str) -> list[Entry]:
        """Objects whose keys start with `prefix`, sorted by key. Raises Endless."""

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
        raise StoreError(f"{key!r} is not a valid key")


def is_there(store: Store, key: str) -> bool:
    """Whether an object can be read; a listing may be late to show it."""
    try:
        with store.open(key):
            return True
    except NotFound:
        return False


def read_chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def read_object(stream: BinaryIO, key: str) -> bytes:
    """What `get` returns, without holding more than that in memory."""
    data = stream.read(MAX_OBJECT_BYTES + 1)
    if len(data) > MAX_OBJECT_BYTES:
        raise TooLarge(f"{key} is larger than {MAX_OBJECT_BYTES} bytes")
    return data


class Corrupt(StoreError):
    """What was read does not have the digest it was pinned with."""


def download(
    store: Store,
    key: str,
    digest: str,
    folder: Path,
    max_bytes: int = MAX_BLOB_BYTES,
    *,
    outlasts_power_cut: bool = True,
) -> Path:
    """A blob as a local file named by its digest. One already there is hashed, and fetched again if changed.

    Args:
        outlasts_power_cut: False does not wait for the disk, for who fetches all of it again after a crash.

    Raises:
        NotFound: there is no such blob.
        Corrupt: the bytes are not the ones that `digest` pins, or more than `max_bytes`.
    """
    target = folder / digest
    if target.exists() and _digest_of(target) == digest:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    # Its own name, as another process may be at the same blob.
    partial = folder / f"{digest}.{secrets.token_hex(8)}.partial"
    try:
        with store.open(key) as stream, partial.open("xb") as file:
            got = _copy(stream, file, key, max_bytes)
            if outlasts_power_cut:  # on disk before it is called by its digest
                file.flush()
                os.fsync(file.fileno())
        if got != digest:
            raise Corrupt(f"{key}: its bytes hash to {got[:12]}…, but its record says {digest[:12]}…")
        return partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _copy(source: BinaryIO, target: BinaryIO, key: str, max_bytes: int) -> str:
    """Returns the sha256 of what was copied."""
    sha256, left = hashlib.sha256(), max_bytes
    for chunk in read_chunks(source):
        left -= len(chunk)
        if left < 0:
            raise Corrupt(f"{key}: has more than the {max_bytes} bytes expected")
        sha256.update(chunk)
        target.write(chunk)
    return sha256.hexdigest()


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
