"""Prepared cases on disk, so that a case is read, checked and resampled once.

One folder per case, named by what went in: the files' bytes, the preprocessing, the label's meaning and
this code's version. A folder appears by one rename when it is complete; one that no longer matches its own
digests is made again.
"""

import hashlib
import shutil
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from segviz_exchange.contract.choices import OnBadCase
from segviz_exchange.contract.spec import Preprocessing
from segviz_trainer.data.grids import Grid
from segviz_trainer.data.labels import annotated, is_organ
from segviz_trainer.data.layouts import Case
from segviz_trainer.data.preprocess import PreparedVolumes, preprocess, preprocessing_of
from segviz_trainer.process.errors import BadCase, BadCases

# Raise it with any change to what preprocessing computes.
_CODE_VERSION = 3
_IMAGE, _LABEL, _FOREGROUND = "image.npy", "label.npy", "foreground.npy"
# Packed: read once per validation, and an organ's mask shrinks a hundredfold.
_NATIVE_LABEL = "native_label.zlib"
_FILES = (_IMAGE, _LABEL, _FOREGROUND, _NATIVE_LABEL)
_RECORD = "case.json"


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lies beside the arrays."""

    grid: Grid
    native: Grid
    warnings: tuple[str, ...]
    digests: dict[str, str]


@dataclass(frozen=True)
class PreparedCase:
    """A case in the cache; its arrays stay on disk until asked for, so holding many costs nothing."""

    id: str
    data_set: str
    organs: frozenset[str]
    """What its data set annotates."""
    annotated: frozenset[int]
    """The same as indices from 0; the class in a label is 1 + index."""
    grid: Grid
    native: Grid
    """The grid of the stored file, to bring predictions back to."""
    content: str
    """Digest of the stored image, whatever is made of it: the same case in every federation."""
    folder: Path
    warnings: tuple[str, ...] = ()

    def image(self) -> torch.Tensor:
        """(1, X, Y, Z) float32, axes along R, A, S."""
        return torch.from_numpy(np.load(self.folder / _IMAGE, allow_pickle=False))

    def native_label(self) -> NDArray[np.uint8]:
        """`native.shape`: 0 background, 1 + i the i-th organ, as the site drew it."""
        packed = (self.folder / _NATIVE_LABEL).read_bytes()
        return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(self.native.shape)

    def mapped_image(self) -> NDArray[np.float32]:
        """(1, X, Y, Z), read-only and read from disk only where it is looked at."""
        return _mapped(self.folder / _IMAGE)

    def mapped_label(self) -> NDArray[np.uint8]:
        """(1, X, Y, Z), as `mapped_image`."""
        return _mapped(self.folder / _LABEL)

    def mapped_foreground(self) -> NDArray[np.int32]:
        """(N,): flat indices into (X, Y, Z) of the organ voxels, ascending; as `mapped_image`."""
        return _mapped(self.folder / _FOREGROUND)


@dataclass(frozen=True)
class Prepared:
    cases: tuple[PreparedCase, ...]
    skipped: tuple[BadCase, ...]


def prepare(
    cases: Sequence[Case],
    preprocessing: Preprocessing,
    organs: Sequence[str],
    max_mebibytes: int,
    folder: Path,
    on_bad_case: OnBadCase,
    report: Callable[[int, int, str], None],
) -> Prepared:
    """Prepare every case into `folder`, taking from there what is already done.

    `report` is told cases done, cases in all and the case's id, after each case.

    Raises:
        BadCases: some cases cannot be used and `on_bad_case` is `Refuse`; all were checked first.
    """
    good: list[PreparedCase] = []
    bad: list[BadCase] = []
    for done, case in enumerate(cases, start=1):
        try:
            good.append(prepare_case(case, preprocessing, organs, max_mebibytes, folder))
        except BadCase as error:
            bad.append(error)
        report(done, len(cases), case.id)
    if bad and on_bad_case is OnBadCase.REFUSE:
        raise BadCases(bad, len(cases))
    return Prepared(tuple(good), tuple(bad))


def prepare_case(
    case: Case, preprocessing: Preprocessing, organs: Sequence[str], max_mebibytes: int, folder: Path
) -> PreparedCase:
    """The cached case, made now if it is missing or damaged.

    Raises:
        BadCase: the case cannot be used.
    """
    preprocessing = preprocessing_of(case, preprocessing)
    contents = _contents(case)
    place = folder / _key(case, contents, preprocessing, organs)
    record = _read(place)
    if record is None:
        volumes = preprocess(case, preprocessing, organs, max_mebibytes)
        record = _write(place, volumes)
    return PreparedCase(
        id=case.id,
        data_set=case.data_set,
        organs=frozenset(case.organs),
        annotated=annotated(case, organs),
        grid=record.grid,
        native=record.native,
        content=_content(contents),
        folder=place,
        warnings=record.warnings,
    )


def _key(
    case: Case, contents: Mapping[str, object], preprocessing: Preprocessing, organs: Sequence[str]
) -> str:
    """Content, not time stamps: a file copied or touched is the same case, one edited in place is not."""
    meaning: Mapping[str, object] = {
        "version": _CODE_VERSION,
        **contents,
        "preprocessing": preprocessing,
        "classes": {organ: [1 + organs.index(organ), *sorted(ids)] for organ, ids in case.organs.items()},
        "background": sorted(case.background),
        "ignored": sorted(case.ignored),
    }
    return hashlib.sha256(msgspec.json.encode(meaning, order="deterministic")).hexdigest()[:32]


def _contents(case: Case) -> dict[str, object]:
    if case.structures is None:
        return {"image": _file_digest(case.image), "label": _file_digest(case.label)}
    # With their names, which decide what counts as damaged.
    files = {file.relative_to(case.image).as_posix(): _file_digest(file) for file in case.files()}
    return {"files": files, "structures": case.structures}


def _content(contents: Mapping[str, object]) -> str:
    """A corrected label does not make another patient of it, where the label is a file of its own."""
    known = contents.get("image", contents)
    return hashlib.sha256(msgspec.json.encode(known, order="deterministic")).hexdigest()


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadCase(
            path, f"cannot be read ({error.strerror})", "Check that it exists and is readable"
        ) from error


def _read(place: Path) -> _Record | None:
    """The record of a complete, undamaged case; None if there is none."""
    try:
        record = msgspec.json.decode((place / _RECORD).read_bytes(), type=_Record)
        intact = {name: _digest(place / name) for name in _FILES} == record.digests
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    return record if intact else None


def _write(place: Path, volumes: PreparedVolumes) -> _Record:
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=place.parent))
    try:
        np.save(partial / _IMAGE, volumes.image.voxels, allow_pickle=False)
        np.save(partial / _LABEL, volumes.label, allow_pickle=False)
        # Drawing a crop's centre then reads one number and never the whole label.
        foreground = np.flatnonzero(is_organ(volumes.label)).astype(np.int32)
        np.save(partial / _FOREGROUND, foreground, allow_pickle=False)
        (partial / _NATIVE_LABEL).write_bytes(zlib.compress(volumes.native_label.tobytes(), level=1))
        digests = {name: _digest(partial / name) for name in _FILES}
        record = _Record(volumes.image.grid, volumes.image.native, volumes.image.warnings, digests)
        (partial / _RECORD).write_bytes(msgspec.json.encode(record))
        if place.exists():  # Damaged, or `_read` would have returned it.
            shutil.rmtree(place)
        partial.replace(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _mapped(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
