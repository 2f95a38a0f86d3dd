"""Tensors as safetensors files, written and read in chunks and hashed while they flow.

The format (huggingface/safetensors): eight bytes of little-endian header length, a JSON header that maps
names to dtype, shape and byte range, then the bytes. Nothing in it is ever executed.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import RawIOBase
from math import prod
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from segviz_exchange.process.words import plain

# Enough for some ten thousand tensors; a larger header is an attack or a mistake.
MAX_HEADER_BYTES = 8 << 20
CHUNK_ELEMENTS = 1 << 15  # 128 KiB of float32: a sum in float64 beside it still fits the cache
MAX_DIMENSIONS = 64  # numpy's
_METADATA = "__metadata__"

NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}
SAFETENSORS_NAMES = {dtype: name for name, dtype in NUMPY_TYPES.items()}

Array = NDArray[Any]


class InvalidTensors(Exception):
    """The bytes are no safetensors file that we accept; the message says why.

    It may quote what the file says, in which a name has up to MAX_HEADER_BYTES: it is cut here.
    """

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


class TensorInfo(msgspec.Struct, frozen=True):
    dtype: str
    """As safetensors names it: F32, I64, …"""
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.elements * NUMPY_TYPES[self.dtype].itemsize


@dataclass(frozen=True)
class TensorFile:
    """An open description of a safetensors file on disk; reading is by tensor and chunk."""

    path: Path
    infos: dict[str, TensorInfo]
    metadata: dict[str, str]
    offsets: dict[str, int]

    def chunks(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[Array]:
        """The tensor, flat, at most CHUNK_ELEMENTS at a time; all of it, or its elements start:stop."""
        info = self.infos[name]
        dtype = NUMPY_TYPES[info.dtype]
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offsets[name] + start * dtype.itemsize)
            left = (info.elements if stop is None else min(stop, info.elements)) - start
            while left > 0:
                count = min(left, CHUNK_ELEMENTS)
                # Not kept in a variable: a waiting generator would hold its chunk, and a merge has many.
                yield self._read_chunk(file, name, count, dtype)
                left -= count

    def _read_chunk(self, file: RawIOBase, name: str, count: int, dtype: np.dtype[Any]) -> Array:
        chunk = np.empty(count, dtype)
        view = chunk.data.cast("B")
        while view:
            read = file.readinto(view)
            if not read:
                raise InvalidTensors(f"{self.path.name}: ends inside tensor {name!r}")
            view = view[read:]
        return chunk

    def span(self, name: str, start: int, stop: int) -> Array:
        """Its elements start:stop, flat, in one array."""
        parts = list(self.chunks(name, start, stop))
        return np.concatenate(parts) if parts else np.empty(0, NUMPY_TYPES[self.infos[name].dtype])

    def read(self, name: str) -> Array:
        """One whole tensor in its shape."""
        info = self.infos[name]
        return self.span(name, 0, info.elements).reshape(info.shape)

    def read_all(self) -> dict[str, Array]:
        return {name: self.read(name) for name in self.infos}


def open_tensors(path: Path) -> TensorFile:
    """Read and check a file's header; the data stays on disk.

    Raises:
        InvalidTensors: header too long or not JSON, unknown dtype, ranges that overlap, leave a gap, do not
            match their shape, or end elsewhere than the file.
    """
    with path.open("rb") as file:
        entries, metadata, data_start = _read_header(file, path.name)
    infos: dict[str, TensorInfo] = {}
    offsets: dict[str, int] = {}
    expected = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in NUMPY_TYPES:
            raise InvalidTensors(f"{path.name}: tensor {name!r} has dtype {entry.dtype!r}")
        info = TensorInfo(entry.dtype, entry.shape)
        begin, end = entry.data_offsets
        if begin != expected or end - begin != info.size_bytes:
            raise InvalidTensors(
                f"{path.name}: tensor {name!r} occupies bytes {begin}:{end}, which do not match its shape"
            )
        infos[name], offsets[name] = info, data_start + begin
        expected = end
    if path.stat().st_size != data_start + expected:
        raise InvalidTensors(
            f"{path.name}: {path.stat().st_size} bytes, but its header says {data_start + expected}"
        )
    return TensorFile(path, dict(sorted(infos.items())), metadata, offsets)


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(max_length=MAX_DIMENSIONS)]
    data_offsets: tuple[int, int]


def _read_header(file: BinaryIO, name: str) -> tuple[dict[str, _Entry], dict[str, str], int]:
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise InvalidTensors(
            f"{name}: its header has {length} bytes; at most {MAX_HEADER_BYTES} are accepted"
        )
    try:
        fields = msgspec.json.decode(file.read(length), type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(fields.pop(_METADATA, b"{}"), type=dict[str, str])
        entries = {key: msgspec.json.decode(raw, type=_Entry) for key, raw in fields.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidTensors(f"{name}: its header is not safetensors: {error}") from error
    return entries, metadata, 8 + length


def write_tensors(
    path: Path,
    infos: Mapping[str, TensorInfo],
    chunks: Iterable[Array],
    metadata: Mapping[str, str] | None = None,
) -> str:
    """Write a file from flat chunks that follow each other in the sorted order of `infos`.

    Returns:
        The sha256 of the file, in hex. The same tensors and metadata always give the same bytes.
    """
    if _METADATA in infos:
        raise ValueError(f"no tensor may be called {_METADATA}: the format reserves that name")
    header: dict[str, Any] = {}
    if metadata:
        header[_METADATA] = dict(sorted(metadata.items()))
    offset = 0
    for name in sorted(infos):
        info = infos[name]
        header[name] = {
            "dtype": info.dtype,
            "shape": list(info.shape),
            "data_offsets": [offset, offset + info.size_bytes],
        }
        offset += info.size_bytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # data is to start aligned
    sha256 = hashlib.sha256()
    written = 0
    with path.open("wb") as file:
        for part in (len(encoded).to_bytes(8, "little"), encoded):
            sha256.update(part)
            file.write(part)
        for chunk in chunks:
            data = np.ascontiguousarray(chunk).data.cast("B")
            sha256.update(data)
            file.write(data)
            written += len(data)
    if written != offset:
        raise ValueError(f"the chunks hold {written} bytes, the tensors {offset}")
    return sha256.hexdigest()


def save(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> str:
    """Write whole arrays; returns the sha256 of the file."""
    arrays = {name: _as_stored(name, np.asarray(value)) for name, value in tensors.items()}
    infos = {name: info_of(value) for name, value in arrays.items()}
    return write_tensors(path, infos, (arrays[name].reshape(-1) for name in sorted(arrays)), metadata)


def _as_stored(name: str, value: Array) -> Array:
    dtype = value.dtype.newbyteorder("<")
    if dtype not in SAFETENSORS_NAMES:
        raise ValueError(f"tensor {name!r} has dtype {value.dtype}; supported are {', '.join(NUMPY_TYPES)}")
    return value.astype(dtype, copy=False)


def info_of(value: Array) -> TensorInfo:
    return TensorInfo(SAFETENSORS_NAMES[value.dtype], tuple(value.shape))
