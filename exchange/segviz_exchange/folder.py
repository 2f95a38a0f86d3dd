"""A folder as a store: for one machine, or several that mount the same file system."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from segviz_exchange.store import CHUNK_BYTES, AlreadyExists, Entry, NotFound, StoreError

# Half-written files wait under this name; no key may start with it, and listings never show it.
_STAGING = ".staging"


class FolderStore:
    """Objects are files. A create is a hard link: it appears whole, and of two racing ones one fails."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def __str__(self) -> str:
        return str(self.root)

    def create(self, key: str, data: bytes) -> None:
        target = self._path(key)
        staged = self._stage(data)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(staged, target)
        except FileExistsError as error:
            raise AlreadyExists(key) from error
        finally:
            staged.unlink()
        _sync_folder(target.parent)

    def put(self, key: str, data: bytes) -> None:
        self._replace(key, self._stage(data))

    def upload(self, key: str, path: Path) -> None:
        with path.open("rb") as source:
            self._replace(key, self._stage(source))

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFound(key) from error

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        try:
            stream = self._path(key).open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFound(key) from error
        with stream:
            yield stream

    def list(self, prefix: str) -> list[Entry]:
        folder = self.root / prefix.rpartition("/")[0]
        entries = []
        for parent, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if name != _STAGING]
            for name in files:
                path = Path(parent, name)
                key = path.relative_to(self.root).as_posix()
                if not key.startswith(prefix):
                    continue
                try:
                    entries.append(_entry(key, path))
                except FileNotFoundError:
                    continue  # deleted since it was listed
        return sorted(entries, key=lambda entry: entry.key)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def now(self) -> datetime:
        # A file's own timestamp, not the process's clock: a network file system has a clock of its own.
        staged = self._stage(b"")
        try:
            return _modified(staged)
        finally:
            staged.unlink()

    def scoped(self, prefix: str) -> "FolderStore":
        return FolderStore(self.root / prefix)

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or ".." in parts or parts[0] == _STAGING:
            raise StoreError(f"{key!r} cannot be a key")
        return self.root / key

    def _stage(self, data: bytes | BinaryIO) -> Path:
        folder = self.root / _STAGING
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        with staged.open("xb") as file:
            if isinstance(data, bytes):
                file.write(data)
            else:
                while chunk := data.read(CHUNK_BYTES):
                    file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        return staged

    def _replace(self, key: str, staged: Path) -> None:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(target)
        _sync_folder(target.parent)


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _entry(key: str, path: Path) -> Entry:
    return Entry(key, path.stat().st_size, _modified(path))


def _sync_folder(folder: Path) -> None:
    """Make the directory entry itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
