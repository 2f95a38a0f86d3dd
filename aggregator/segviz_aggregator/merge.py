"""One round's model from its participants' files: tensor by tensor, chunk by chunk, on a few cores.

Memory is a few chunks (under Median and TrimmedMean one a site) for each core, however large the model.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from segviz_aggregator.algorithms.by_name import Merge, merge_of
from segviz_aggregator.schema import Schema
from segviz_exchange.contract import codec, sharing
from segviz_exchange.contract.codec import Array, TensorFile, write_tensors
from segviz_exchange.contract.records import Closing, Control
from segviz_exchange.process.ahead import made_ahead

MOST_WORKERS = 4
"""Cores that one merge uses: reading and hashing the result keep up with no more."""
STRETCH_CHUNKS = 4
"""Merged by one core before the next stretch: files are opened and cores take turns that much less often."""

Source = tuple[TensorFile, int]
"""A file and its weight."""


def merge_round(
    control: Control,
    closing: Closing,
    schema: Schema,
    files: Mapping[str, TensorFile],
    previous: TensorFile,
    target: Path,
) -> str:
    """Write the global model of a round ≥ 1: every tensor that the round shares, and no other.

    A tensor is merged over those of its contributors that take part, by alias; where none does, the
    previous global value stays. `control` is the one that the closing names, `files` are by alias.

    Returns:
        The sha256 of the file.
    """
    sources = find_sources(control, closing, schema, files, previous)
    schema = schema.extended(control)
    merge = merge_of(control.spec.algorithm)
    infos = {name: schema.infos[name] for name in sources}
    return write_tensors(target, infos, merged_chunks(merge, sources, previous), metadata_of(closing))


def find_sources(
    control: Control,
    closing: Closing,
    schema: Schema,
    files: Mapping[str, TensorFile],
    previous: TensorFile,
) -> dict[str, list[Source]]:
    """By tensor of the round's model, what it is merged from; nothing where the previous value stays."""
    sources: dict[str, list[Source]] = {}
    for name, group in schema.extended(control).groups.items():
        contributors = sharing.contributors(group, control)
        # An update made under the control before may lack a tensor that is shared since.
        present = [
            (files[participant.site], participant.weight)
            for participant in closing.participants
            if participant.site in contributors and name in files[participant.site].infos
        ]
        if contributors and (present or name in previous.infos):
            sources[name] = present
    return sources


def metadata_of(closing: Closing) -> dict[str, str]:
    # The round is part of the bytes, so that no two rounds share a blob and each can be deleted alone.
    return {"round": str(closing.round)}


def merged_chunks(
    merge: Merge, sources: Mapping[str, Sequence[Source]], previous: TensorFile
) -> Iterator[Array]:
    """By tensor in sorted order; a tensor without sources is the previous one.

    Stretches of a tensor are merged side by side. None depends on another: threads do not show in the bytes.
    """
    stretch = STRETCH_CHUNKS * codec.CHUNK_ELEMENTS
    makers = (
        partial(_stretch, merge, name, sources[name], previous, range(start, start + stretch))
        for name in sorted(sources)
        for start in range(0, _paces(sources[name], previous).infos[name].elements, stretch)
    )
    workers = min(MOST_WORKERS, os.cpu_count() or 1)
    with closing(made_ahead(makers, workers=workers, ahead=workers, name="merging")) as stretches:
        for chunks in stretches:
            yield from chunks


def _stretch(
    merge: Merge, name: str, sources: Sequence[Source], previous: TensorFile, at: range
) -> list[Array]:
    """A few chunks of a tensor."""
    if not sources:
        return list(previous.chunks(name, at.start, at.stop))
    weights = [weight for _, weight in sources]
    first, *others = (file.chunks(name, at.start, at.stop) for file, _ in sources)
    return [merge(_one_by_one(chunk, others), weights) for chunk in first]


def _paces(sources: Sequence[Source], previous: TensorFile) -> TensorFile:
    """The first file paces the rest: all have this tensor in one shape."""
    return sources[0][0] if sources else previous


def _one_by_one(first: Array, others: list[Iterator[Array]]) -> Iterator[Array]:
    yield first
    for reader in others:
        yield next(reader)
