"""Is an update fit to be merged? Checks in order; the first that finds a fault rejects it.

What the record and the listing say is looked at before the blob is downloaded, what the blob holds after it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from math import isfinite, sqrt
from typing import Protocol

import numpy as np

from segviz_aggregator import reasons
from segviz_aggregator.schema import Schema, read_schema
from segviz_aggregator.scratch import Scratch
from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import UpdatePrecision
from segviz_exchange.contract.codec import MAX_HEADER_BYTES, Array, InvalidTensors, TensorFile
from segviz_exchange.contract.numbers import MAX_NORM_VALUE, fault_of
from segviz_exchange.contract.records import Control, Update
from segviz_exchange.contract.sharing import NORM, PARAMETER, SHARED_HEAD
from segviz_exchange.contract.thin import precision_of
from segviz_exchange.process.words import plain
from segviz_exchange.stores.store import MAX_BLOB_BYTES, Corrupt, Entry, NotFound, Store, StoreError


@dataclass(frozen=True)
class Fault:
    reason: str
    """One of `reasons`."""
    message: str
    """May quote names that a site chose: it is cut here, before it goes into a record or a log."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", plain(self.message))


class Reference(Protocol):
    """The committed model that updates are measured against."""

    @property
    def schema(self) -> Schema: ...

    @property
    def file(self) -> TensorFile: ...

    @property
    def digest(self) -> str:
        """Of that file."""

    def square_sum(self, name: str) -> float | None:
        """Of a tensor of the previous global model; none where it has no such tensor."""

    def chunks(self, name: str) -> Iterator[Array]:
        """Of such a tensor."""


@dataclass(frozen=True)
class Candidate:
    """An update that nobody has looked into yet, with all that the checks need."""

    site: str
    round: int
    attempt: int
    """Site, round and attempt as the key has them."""
    update: Update
    committed: datetime
    newest_lease: Entry | None
    blob: Entry | None
    """As the store lists it; None where it does not."""
    control: Control
    """The newest one; its norm limit counts."""
    made_under: Control | None
    """The control that the update names; what it shares follows from it."""
    reference: Reference | None
    """None in round 0."""

    @property
    def key(self) -> str:
        return keys.site_blob(self.site, self.update.blob)

    @property
    def expected(self) -> Schema | None:
        """What this update has to hold; in round 0, its own file says that."""
        if self.reference is None or self.made_under is None:
            return None
        schema = self.reference.schema.extended(self.made_under)
        infos = schema.shared_by(self.site, self.made_under)
        return Schema(infos, {name: schema.groups[name] for name in infos})


@dataclass(frozen=True)
class Delivered:
    """The same, with its blob at hand."""

    candidate: Candidate
    file: TensorFile
    expected: Schema


def verify(candidate: Candidate, store: Store, scratch: Scratch) -> Fault | None:
    """Downloads the blob into `scratch`, unless its record already disqualifies it."""
    for check in RECORD_CHECKS:
        if fault := check(candidate):
            return fault
    delivered = fetch(candidate, store, scratch)
    if isinstance(delivered, Fault):
        return delivered
    for check_tensors in TENSOR_CHECKS:
        if fault := check_tensors(delivered):
            return fault
    return None


def fetch(candidate: Candidate, store: Store, scratch: Scratch) -> Delivered | Fault:
    update = candidate.update
    try:
        file = _whole(candidate, scratch.fetch(store, candidate.key, update.blob, update.size_bytes), scratch)
        return Delivered(candidate, file, candidate.expected or read_schema(file))
    except NotFound as error:
        return Fault(reasons.BLOB_MISSING, f"there is no {error}")
    except Corrupt as error:
        return Fault(reasons.BLOB_CORRUPT, str(error))
    except InvalidTensors as error:
        return Fault(reasons.INVALID_TENSORS, str(error))
    except StoreError as error:
        # Neither away nor forbidden: such as encrypted with a key that only its writer has.
        if type(error) is not StoreError:
            raise
        return Fault(reasons.BLOB_CORRUPT, f"{candidate.key}: cannot be read: {error}")


def _whole(candidate: Candidate, file: TensorFile, scratch: Scratch) -> TensorFile:
    """With all its values, as it will be merged. Raises InvalidTensors."""
    reference, control = candidate.reference, candidate.made_under
    wanted, said = UpdatePrecision.FLOAT32, precision_of(file)
    if reference is not None and control is not None:  # round 0 is whole
        wanted = control.spec.update_precision
    if said is not wanted:
        raise InvalidTensors(
            f"its values travel as {said.value}, where spec.updates.precision says {wanted.value}"
        )
    return file if reference is None else scratch.whole(file, reference.file, reference.digest)


def check_record(candidate: Candidate) -> Fault | None:
    update = candidate.update
    says = (update.site, update.round, update.attempt)
    lies = (candidate.site, candidate.round, candidate.attempt)
    if says == lies:
        return None
    return Fault(reasons.INVALID_RECORD, f"its site, round and attempt are {says}, but its key says {lies}")


def check_control(candidate: Candidate) -> Fault | None:
    if candidate.made_under is not None:
        return None
    number = candidate.update.control
    return Fault(reasons.UNKNOWN_CONTROL, f"made under control {number}, which does not exist")


def check_lease(candidate: Candidate) -> Fault | None:
    """An update made before a restart stays valid: only what an incarnation writes after it was replaced
    is refused, because the site's state has gone on without it."""
    newest = candidate.newest_lease
    if newest is None or candidate.update.lease >= keys.number_of(newest.key):
        return None
    if candidate.committed <= newest.modified:
        return None
    got, now = candidate.update.lease, keys.number_of(newest.key)
    return Fault(reasons.STALE_LEASE, f"written under lease {got} after lease {now} was taken")


def check_size(candidate: Candidate) -> Fault | None:
    """Before the download: a blob of any size could fill the disk."""
    key, entry = candidate.key, candidate.blob
    if entry is None:
        return Fault(reasons.BLOB_MISSING, f"there is no {key}")
    got, said = entry.size_bytes, candidate.update.size_bytes
    if got != said:
        return Fault(reasons.BLOB_CORRUPT, f"{key} has {got} bytes, but its record says {said}")
    # What a model is, nobody knows before round 0.
    limit = MAX_BLOB_BYTES
    if expected := candidate.expected:
        limit = MAX_HEADER_BYTES + sum(info.size_bytes for info in expected.infos.values())
    if got > limit:
        return Fault(reasons.BLOB_TOO_LARGE, f"{key} has {got} bytes; at most {limit} are accepted")
    return None


def check_groups(delivered: Delivered) -> Fault | None:
    """Round 0 alone: later, the groups are round 0's."""
    candidate = delivered.candidate
    if candidate.reference is not None or candidate.made_under is None:
        return None
    heads = delivered.expected.heads
    wanted = (SHARED_HEAD,) if candidate.made_under.shared_head else candidate.made_under.organs
    if heads != wanted:
        return Fault(reasons.WRONG_TENSORS, f"the model has heads {list(heads)}, expected {list(wanted)}")
    return None


def check_names(delivered: Delivered) -> Fault | None:
    got, expected = delivered.file.infos.keys(), delivered.expected.infos.keys()
    for name in sorted(expected - got):
        return Fault(reasons.WRONG_TENSORS, f"tensor {name!r} is missing")
    for name in sorted(got - expected):
        return Fault(reasons.WRONG_TENSORS, f"tensor {name!r} is not shared by {delivered.candidate.site}")
    return None


def check_shapes(delivered: Delivered) -> Fault | None:
    for name, info in delivered.expected.infos.items():
        got = delivered.file.infos[name].shape
        if got != info.shape:
            return Fault(
                reasons.WRONG_SHAPE, f"tensor {name!r} has shape {list(got)}, expected {list(info.shape)}"
            )
    return None


def check_dtypes(delivered: Delivered) -> Fault | None:
    for name, info in delivered.expected.infos.items():
        got = delivered.file.infos[name].dtype
        if got != info.dtype:
            return Fault(reasons.WRONG_DTYPE, f"tensor {name!r} has dtype {got}, expected {info.dtype}")
    return None


def check_values(delivered: Delivered) -> Fault | None:
    """Finite, and not too far from the previous global model. Other updates of the round do not count, or
    the verdict would depend on who comes first."""
    reference = delivered.candidate.reference
    moved = theirs = 0.0
    for name, group in delivered.expected.groups.items():
        before = reference.square_sum(name) if reference else None
        # What the global model lacks has come from nowhere: a head of an organ that joined.
        known = reference.chunks(name) if reference and before is not None else None
        squares = square_sum(delivered.file, name) if known is None else _moved(delivered.file, name, known)
        # Squares of finite numbers may overflow: only then, or of variances, is it worth a second look.
        if (group.kind != PARAMETER or not isfinite(squares)) and (
            fault := fault_of(name, delivered.file.chunks(name))
        ):
            return Fault(reasons.NOT_FINITE, fault)
        if group.kind == NORM and (fault := _too_large(delivered.file, name)):
            return Fault(reasons.NORM_TOO_LARGE, fault)
        if group.kind == PARAMETER:
            moved, theirs = moved + squares, theirs + (before or 0.0)
    ratio = delivered.candidate.control.spec.participation.max_norm_ratio
    if reference and sqrt(moved) > ratio * sqrt(theirs):
        return Fault(
            reasons.NORM_TOO_LARGE,
            f"the parameters moved by {sqrt(moved):.4g}, the global model's norm is {sqrt(theirs):.4g}; "
            f"at most {ratio:g} times that is accepted (spec.participation.maxNormRatio)",
        )
    return None


def _moved(file: TensorFile, name: str, before: Iterator[Array]) -> float:
    """Σ(x − before)² in float64, as `square_sum`."""
    pairs = zip(file.chunks(name), before, strict=True)
    return sum((_square_sum(chunk.astype(np.float64) - known) for chunk, known in pairs), start=0.0)


def _too_large(file: TensorFile, name: str) -> str | None:
    largest = max((float(np.abs(chunk).max(initial=0)) for chunk in file.chunks(name)), default=0.0)
    if largest <= MAX_NORM_VALUE:
        return None
    return f"tensor {name!r} holds {largest:.4g}; at most {MAX_NORM_VALUE:g} is accepted"


RECORD_CHECKS = (check_record, check_control, check_lease, check_size)
TENSOR_CHECKS = (check_groups, check_names, check_shapes, check_dtypes, check_values)


def square_sum(file: TensorFile, name: str) -> float:
    """Σx² in float64; NaN or infinite where a value is, and perhaps where float64 overflows."""
    return sum((_square_sum(chunk) for chunk in file.chunks(name)), start=0.0)


def _square_sum(chunk: Array) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        wide = chunk.astype(np.float64)
        return float(np.dot(wide, wide))
