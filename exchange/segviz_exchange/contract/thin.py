"""An update in fewer bits: the change against the round's model, block by block with a scale of its own.

Only parameters are sent so. What a BatchNorm owns (a variance must not fall below zero) and what the round's
model does not hold are a few numbers, and go as they are. What the rounding takes from one update is added to
the next (error feedback: Seide et al., 2014; Karimireddy et al., 2019), so that it is late and not lost.

The file is a safetensors file. Its metadata name the precision and the digest of the model that the changes
are against; its tensors are `whole/NAME` in F32, and `change/NAME` (F16 or I8, in NAME's shape) with
`scale/NAME` (F32, one for each BLOCK_ELEMENTS numbers). A number is base + scale · change, in float64, and
rounded to F32 at the end: that is exact or rounded alike everywhere, so both ends have the same bytes.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segviz_exchange.contract.choices import UpdatePrecision
from segviz_exchange.contract.codec import (
    NUMPY_TYPES,
    Array,
    InvalidTensors,
    TensorFile,
    TensorInfo,
    write_tensors,
)

BLOCK_ELEMENTS = 256
_SPAN_ELEMENTS = 128 * BLOCK_ELEMENTS
"""Worked on at once: 256 KiB of float64."""

PRECISION, AGAINST = "updates", "against"
"""Keys of the metadata."""
_WHOLE, _CHANGE, _SCALE = "whole/", "change/", "scale/"
_DTYPES = {UpdatePrecision.FLOAT16_DELTA: "F16", UpdatePrecision.INT8_DELTA: "I8"}
_INT8_MAX = 127
_SMALLEST_EXPONENT = -126
"""Of a normal float32."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Base:
    """The model that changes are against."""

    digest: str
    tensors: Mapping[str, Array]


def encode(
    path: Path,
    values: Mapping[str, Array],
    parameters: Collection[str],
    base: Base,
    late: Mapping[str, Array],
    precision: UpdatePrecision,
) -> tuple[str, dict[str, Array]]:
    """Write an update.

    Args:
        values: all that is sent, float32.
        parameters: names of those that may be sent as changes, where the base has them too.
        late: by name, what the rounding of the update before has left over.

    Returns:
        The sha256 of the file, and what its own rounding leaves over: float32, finite.
    """
    infos: dict[str, TensorInfo] = {}
    arrays: dict[str, Array] = {}
    left_over: dict[str, Array] = {}
    for name, value in values.items():
        if name not in parameters or name not in base.tensors:
            infos[_WHOLE + name] = TensorInfo("F32", tuple(value.shape))
            arrays[_WHOLE + name] = value
            continue
        before = base.tensors[name].astype(np.float64).ravel()
        wanted = value.astype(np.float64).ravel()
        if name in late:
            wanted += late[name].ravel()
        change, scale = _rounded(wanted - before, precision)
        infos[_CHANGE + name] = TensorInfo(_DTYPES[precision], tuple(value.shape))
        infos[_SCALE + name] = TensorInfo("F32", scale.shape)
        arrays[_CHANGE + name], arrays[_SCALE + name] = change, scale
        rest = (wanted - _decoded(before, change, scale)).astype(np.float32)
        # Of a training that has diverged nothing is carried on: its update is rejected.
        left_over[name] = np.where(np.isfinite(rest), rest, np.float32(0)).reshape(value.shape)
    metadata = {PRECISION: precision.value, AGAINST: base.digest}
    digest = write_tensors(path, infos, (arrays[name].reshape(-1) for name in sorted(infos)), metadata)
    return digest, left_over


def precision_of(file: TensorFile) -> UpdatePrecision:
    """Raises InvalidTensors."""
    said = file.metadata.get(PRECISION, UpdatePrecision.FLOAT32.value)
    try:
        return UpdatePrecision(said)
    except ValueError as error:
        raise InvalidTensors(f"{file.path.name}: its updates are {said!r}, which nobody knows") from error


def decode(file: TensorFile, base: TensorFile, against: str, target: Path) -> str:
    """Write the update as it would be whole, a few blocks at a time.

    Args:
        base: the round's model, whose digest is `against`.

    Returns:
        The sha256 of what was written.

    Raises:
        InvalidTensors: it is against another model, or not what `encode` writes.
    """
    precision = precision_of(file)
    if file.metadata.get(AGAINST) != against:
        raise InvalidTensors(
            f"{file.path.name}: its changes are against the model {file.metadata.get(AGAINST, 'of nobody')}, "
            f"not against {against}"
        )
    whole, changes = _parts(file, base, precision)
    infos = whole | changes

    def chunks() -> Iterator[Array]:
        for name in sorted(infos):
            if name in whole:
                yield from file.chunks(_WHOLE + name)
                continue
            for start in range(0, changes[name].elements, _SPAN_ELEMENTS):
                stop = start + _SPAN_ELEMENTS
                scale = file.span(_SCALE + name, start // BLOCK_ELEMENTS, stop // BLOCK_ELEMENTS)
                before = base.span(name, start, stop).astype(np.float64)
                yield _decoded(before, file.span(_CHANGE + name, start, stop), scale)

    return write_tensors(target, infos, chunks())


def _parts(
    file: TensorFile, base: TensorFile, precision: UpdatePrecision
) -> tuple[dict[str, TensorInfo], dict[str, TensorInfo]]:
    """What the file holds whole, and what as changes; raises InvalidTensors."""
    whole: dict[str, TensorInfo] = {}
    changes: dict[str, TensorInfo] = {}
    scales: dict[str, TensorInfo] = {}
    for stored, info in file.infos.items():
        kind, _, name = stored.partition("/")
        part = {"whole": whole, "change": changes, "scale": scales}.get(kind)
        if part is None or not name:
            raise InvalidTensors(f"{file.path.name}: tensor {stored!r} has no place in an update of changes")
        part[name] = info
    for name, info in changes.items():
        known = base.infos.get(name)
        blocks = -(-info.elements // BLOCK_ELEMENTS)
        if known is None or known.dtype != "F32" or known.shape != info.shape:
            raise InvalidTensors(f"{file.path.name}: tensor {name!r} is no change of the round's model")
        if info.dtype != _DTYPES.get(precision) or scales.pop(name, None) != TensorInfo("F32", (blocks,)):
            raise InvalidTensors(f"{file.path.name}: tensor {name!r} is not stored as {precision.value}")
        if name in whole:
            raise InvalidTensors(f"{file.path.name}: tensor {name!r} is there twice")
    if scales:
        raise InvalidTensors(f"{file.path.name}: tensor {min(scales)!r} has scales and no change")
    return whole, {name: TensorInfo("F32", info.shape) for name, info in changes.items()}


def _rounded(change: Numbers, precision: UpdatePrecision) -> tuple[Array, Array]:
    """In the precision's type, flat, and the blocks' scales; NaN where a block is not finite."""
    blocks = -(-len(change) // BLOCK_ELEMENTS)
    padded = np.zeros((blocks, BLOCK_ELEMENTS))
    padded.ravel()[: len(change)] = change
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        largest = np.abs(padded).max(axis=1, initial=0.0)
        scale = _int8_scale(largest) if precision is UpdatePrecision.INT8_DELTA else _power_of_two(largest)
        scale = np.where(np.isfinite(largest), scale, np.nan).astype(np.float32)
        # A block without change has scale 0, and one without numbers NaN; what is stored of both is 0.
        ratio = np.nan_to_num(padded / scale[:, None].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if precision is UpdatePrecision.INT8_DELTA:
        stored: Array = np.clip(np.rint(ratio), -_INT8_MAX, _INT8_MAX).astype(np.int8)
    else:
        stored = ratio.astype(NUMPY_TYPES["F16"])
    return stored.ravel()[: len(change)], scale


def _int8_scale(largest: Numbers) -> Numbers:
    return largest / _INT8_MAX


def _power_of_two(largest: Numbers) -> Numbers:
    """Above the largest, so that no number overflows F16 and few are subnormal; exact to multiply with."""
    exponent = np.maximum(np.frexp(largest)[1], _SMALLEST_EXPONENT)
    return np.where(largest > 0, np.ldexp(1.0, exponent), 0.0)


def _decoded(before: Numbers, change: Array, scale: Array) -> Array:
    """float32, flat; block b of `change` goes with scale b."""
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.repeat(scale.astype(np.float64), BLOCK_ELEMENTS)[: len(change)]
        value: Array = (before + steps * change.astype(np.float64)).astype(np.float32)
    return value
