"""A folder as a store: for one machine, or several that mount the same file system."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from segviz_exchange.store import CHUNK_BYTES, AlreadyExists, Denied, Entry, NotFound, StoreError, check_key

# Half-written files wait under this name; no key may have it as a part, and listings never show it.
_STAGING = ".staging"


class FolderStore:
    """Objects are files. A create is a hard link: it appears whole, and of two racing ones one fails."""

    def __init__(self, root: Path, top: Path | None = None) -> None:
        self.root = root.resolve()
        self._top = top or self.root
        """Root of the store that this one is a part of."""

    def __str__(self) -> str:
        return str(self.root)

    def create(self, key: str, data: bytes) -> None:
        target = self._path(key)
        staged = self._stage(data)
        try:
            _place(os.link, staged, target)
        except FileExistsError as error:
            if target.is_dir():
                raise StoreError(f"{target} holds objects, and cannot be written as one") from error
            raise AlreadyExists(key) from error
        finally:
            staged.unlink()

    def put(self, key: str, data: bytes) -> None:
        self._replace(key, data)

    def upload(self, key: str, path: Path) -> None:
        with path.open("rb") as source:
            self._replace(key, source)

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
        within = prefix.rpartition("/")[0]
        folder = self._path(within) if within else self.root
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
        try:
            self._path(key).unlink()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return
        _prune(self._path(key).parent, self._top)

    def now(self) -> datetime:
        # A file's own timestamp, not the process's clock: a network file system has a clock of its own.
        staged = self._stage(b"")
        try:
            return _modified(staged)
        finally:
            staged.unlink()

    def scoped(self, prefix: str) -> "FolderStore":
        return FolderStore(self._path(prefix.removesuffix("/")), self._top)

    def _path(self, key: str) -> Path:
        check_key(key)
        if _STAGING in key.split("/"):
            raise StoreError(f"{key!r} cannot be a key: {_STAGING} is the store's own")
        return self.root / key

    def _stage(self, data: bytes | BinaryIO) -> Path:
        folder = self._top / _STAGING
        _make_folder(folder)
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

    def _replace(self, key: str, data: bytes | BinaryIO) -> None:
        target = self._path(key)
        staged = self._stage(data)
        try:
            _place(os.replace, staged, target)
        except IsADirectoryError as error:
            raise StoreError(f"{target} holds objects, and cannot be written as one") from error
        finally:
            staged.unlink(missing_ok=True)


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _entry(key: str, path: Path) -> Entry:
    return Entry(key, path.stat().st_size, _modified(path))


def _place(move: Callable[[Path, Path], None], staged: Path, target: Path) -> None:
    while True:
        try:
            _make_folder(target.parent)
            move(staged, target)
        except FileNotFoundError:
            if not staged.exists():
                raise
            continue  # a delete took the folder when it became empty
        return _sync_folder(target.parent)


def _make_folder(folder: Path) -> None:
    """With its parents, each of which is to survive a power cut, as the object will."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(f"{folder} is an object, and cannot hold others") from error
    except PermissionError as error:
        raise Denied(f"{folder} may not be made by this user") from error
    _sync_folder(folder.parent)


def _prune(folder: Path, top: Path) -> None:
    """Remove folders that hold nothing any more; a bucket has none to begin with."""
    while folder != top:
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise
            return
        folder = folder.parent


def _sync_folder(folder: Path) -> None:
    """Make the directory entry itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
