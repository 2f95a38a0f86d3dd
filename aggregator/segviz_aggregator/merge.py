"""One round's model from its participants' files: tensor by tensor, chunk by chunk.

Memory is a few chunks (under Median and TrimmedMean one a site), however large the model.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from segviz_aggregator.algorithms.by_name import Merge, merge_of
from segviz_aggregator.schema import Schema
from segviz_exchange.contract import sharing
from segviz_exchange.contract.codec import Array, TensorFile, write_tensors
from segviz_exchange.contract.records import Closing, Control

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
    """By tensor in sorted order; a tensor without sources is the previous one."""
    for name in sorted(sources):
        if not sources[name]:
            yield from previous.chunks(name)
            continue
        weights = [weight for _, weight in sources[name]]
        readers = [file.chunks(name) for file, _ in sources[name]]
        # The first reader paces the rest: all files have this tensor in one shape.
        for first in readers[0]:
            yield merge(_one_by_one(first, readers[1:]), weights)


def _one_by_one(first: Array, others: list[Iterator[Array]]) -> Iterator[Array]:
    yield first
    for reader in others:
        yield next(reader)
