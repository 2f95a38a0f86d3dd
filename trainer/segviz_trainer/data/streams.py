"""Files of voxels as streams: every way in which reading one may fail is a `BadCase`."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from segviz_trainer.process.errors import BadCase

_GZIP_MARK = b"\x1f\x8b"
_AGAIN = "Copy or export it again"


@contextmanager
def open_stream(path: Path) -> Iterator[BinaryIO]:
    """The decompressed bytes of a `.nii` or `.nii.gz` file.

    Raises:
        BadCase: the file cannot be opened, or its name and its content disagree about gzip.
    """
    gzipped = path.name.endswith(".nii.gz")
    if not gzipped and path.suffix != ".nii":
        raise BadCase(path, "is neither .nii nor .nii.gz", "Convert it to NIfTI")
    try:
        file = path.open("rb")
    except OSError as error:
        raise BadCase(
            path, f"cannot be opened ({error.strerror})", "Check that it exists and is readable"
        ) from error
    with file:
        try:
            marked = file.read(2) == _GZIP_MARK
            file.seek(0)
        except OSError as error:
            raise BadCase(path, f"cannot be read ({error.strerror})", _AGAIN) from error
        if gzipped != marked:
            found = "gzip-compressed" if marked else "not gzip-compressed"
            wanted = ".nii.gz" if marked else ".nii"
            raise BadCase(
                path, f"is {found}, but its name says otherwise", f"Rename it to {wanted} or export it again"
            )
        yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if gzipped else file


def read_at_most(stream: BinaryIO, count: int, path: Path) -> bytes:
    """Up to `count` bytes; fewer only at the end of the stream. Inflates no more than asked for.

    Raises:
        BadCase: gzip's stream is cut or corrupt, or the disk fails.
    """
    try:
        return stream.read(count)
    except EOFError as error:
        raise BadCase(path, "is cut short: its gzip stream has no end", _AGAIN) from error
    # BadGzipFile is an OSError: checksum and length go here too.
    except (zlib.error, gzip.BadGzipFile) as error:
        raise BadCase(path, f"is corrupt ({error})", _AGAIN) from error
    except OSError as error:
        raise BadCase(path, f"cannot be read ({error.strerror})", _AGAIN) from error
