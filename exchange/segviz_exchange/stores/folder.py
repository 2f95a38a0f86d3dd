"""A folder as a store: for one machine, or several that mount the same file system."""

import errno
import io
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from segviz_exchange.stores.store import (
    CHUNK_BYTES,
    LISTING_SECONDS,
    MAX_LISTED,
    AlreadyExists,
    Denied,
    Endless,
    Entry,
    NotFound,
    StoreError,
    Unavailable,
    check_key,
    read_object,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# What people or time can mend: a full disk, a broken one that is mounted read-only, a file server restarting.
_AWAY = {
    errno.EDQUOT,
    errno.EHOSTDOWN,
    errno.EIO,
    errno.ENOSPC,
    errno.ENOTCONN,
    errno.EROFS,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_LONGER_THAN_A_WRITE_SECONDS = 24 * 3600

Settle = Callable[[int], None]
"""What a written file goes through, by its descriptor, before it has its name: `os.fsync`, or nothing."""

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
        with _errors(target), self._staged(data, os.fsync) as staged:
            try:
                _place(os.link, staged, target)
                _sync_folder(target.parent)
            except FileExistsError as error:
                if target.is_dir():
                    raise StoreError(
                        f"{target} is a folder of objects, so it cannot be written as an object"
                    ) from error
                raise AlreadyExists(key) from error

    def put(self, key: str, data: bytes) -> None:
        # A heartbeat is old in seconds: a power cut may take it, so nobody waits for the disk.
        self._replace(key, data, _leave)

    def upload(self, key: str, path: Path) -> None:
        with path.open("rb") as source:
            self._replace(key, source, os.fsync)
        target = self._path(key)
        with _errors(target):
            _sync_folder(target.parent)
        with _errors(self._staging):
            self._sweep()

    def get(self, key: str) -> bytes:
        with self.open(key) as stream:
            return read_object(stream, key)

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        path = self._path(key)
        try:
            with _errors(path):
                file = _File(path)
        except _ABSENT as error:
            raise NotFound(key) from error
        with io.BufferedReader(file, CHUNK_BYTES) as stream:
            yield stream

    def list(self, prefix: str) -> list[Entry]:
        within = prefix.rpartition("/")[0]
        folder = self._path(within) if within else self.root
        entries: list[Entry] = []
        until = time.monotonic() + LISTING_SECONDS
        with _errors(folder):
            for parent, folders, files in os.walk(folder, onerror=_unless_absent):
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
                if len(entries) > MAX_LISTED:
                    raise Endless(prefix, f"holds more than {MAX_LISTED} objects", entries)
                if time.monotonic() > until:
                    raise Endless(prefix, f"was not listed within {LISTING_SECONDS:g} s", entries)
        return sorted(entries, key=lambda entry: entry.key)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _errors(path), suppress(*_ABSENT):
            path.unlink()
            _prune(path.parent, self._top)

    def now(self) -> datetime:
        # A file's own timestamp, not the process's clock: a network file system has a clock of its own.
        with _errors(self._staging), self._staged(b"", _leave) as staged:
            return _modified(staged)

    def scoped(self, prefix: str) -> "FolderStore":
        return FolderStore(self._path(prefix.removesuffix("/")), self._top)

    def _path(self, key: str) -> Path:
        check_key(key)
        if _STAGING in key.split("/"):
            raise StoreError(f"{key!r} is not a valid key: {_STAGING} is reserved")
        return self.root / key

    @property
    def _staging(self) -> Path:
        return self._top / _STAGING

    @contextmanager
    def _staged(self, data: bytes | BinaryIO, settle: Settle) -> Iterator[Path]:
        """A file that is whole and has settled, until it is placed or this ends."""
        _make_folder(self._staging)
        staged = self._staging / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with staged.open("xb") as file:
                if isinstance(data, bytes):
                    file.write(data)
                else:
                    while chunk := data.read(CHUNK_BYTES):
                        file.write(chunk)
                file.flush()
                settle(file.fileno())
            yield staged
        finally:
            staged.unlink(missing_ok=True)

    def _replace(self, key: str, data: bytes | BinaryIO, settle: Settle) -> None:
        target = self._path(key)
        with _errors(target), self._staged(data, settle) as staged:
            try:
                _place(os.replace, staged, target)
            except IsADirectoryError as error:
                raise StoreError(
                    f"{target} is a folder of objects, so it cannot be written as an object"
                ) from error

    def _sweep(self) -> None:
        """Remove what killed writers left behind."""
        now = self.now().timestamp()
        for left in self._staging.iterdir():
            with suppress(FileNotFoundError):  # its writer was only slow
                if now - left.stat().st_mtime > _LONGER_THAN_A_WRITE_SECONDS:
                    left.unlink()


class _File(io.FileIO):
    """A file whose reads fail as the store's other calls do."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path

    def readinto(self, buffer: "WriteableBuffer") -> int:
        with _errors(self._path):
            return super().readinto(buffer)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Say what a failure means for a caller, and where it happened. That nothing is there, callers know."""
    try:
        yield
    except _ABSENT:
        raise
    except OSError as error:
        said = f"{path}: {error.strerror}"
        if isinstance(error, PermissionError):
            raise Denied(said) from error
        if error.errno in _AWAY:
            raise Unavailable(said) from error
        raise StoreError(said) from error


def _leave(_: int) -> None:
    """To the kernel, when this is written to the disk."""


def _unless_absent(error: OSError) -> None:
    """A prefix below which nothing is, or not any more, lists nothing; all else must not look so."""
    if not isinstance(error, _ABSENT):
        raise error


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
        return


def _make_folder(folder: Path) -> None:
    """With its parents, each of which is to survive a power cut, as the object will."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(f"{folder} is an object, so nothing can be stored below it") from error
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
