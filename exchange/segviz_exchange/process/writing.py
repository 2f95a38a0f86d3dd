"""Files that a reader, or a crash, meets whole: the old one or the new one."""

import os
from pathlib import Path

PRIVATE = 0o700
"""Of a run's folders: they hold models, private heads and what images were prepared to."""


def write_whole(path: Path, data: bytes) -> None:
    _write(path, data, 0o666)


def write_private(path: Path, data: bytes) -> None:
    """For its owner's eyes, from the first byte on; no power cut takes it away again."""
    path.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    _write(path, data, 0o600)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, data: bytes, mode: int) -> None:
    staged = path.with_name(f".{path.name}.{os.getpid()}.partial")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
