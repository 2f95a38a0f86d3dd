"""Putting a finished federation's model together, and into the bucket, for evaluation and for use.

Only the evaluation's identity can read what sites released, so this runs under it.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from segviz_exchange.contract import codec, keys
from segviz_exchange.contract.claims import fault_of_outcome
from segviz_exchange.contract.codec import MAX_HEADER_BYTES, Array, InvalidTensors, TensorFile, TensorInfo
from segviz_exchange.contract.ledger import InvalidRecord, commit, find, read
from segviz_exchange.contract.numbers import fault_of
from segviz_exchange.contract.records import (
    Closing,
    Control,
    Exported,
    Final,
    Outcome,
    Round,
    Update,
    Variant,
)
from segviz_exchange.contract.sharing import (
    COUNTER,
    GROUPS,
    REPRESENTATION,
    SHARED_HEAD,
    decode_groups,
    encode_groups,
    with_organs,
)
from segviz_exchange.stores.store import MAX_BLOB_BYTES, Corrupt, NotFound, Store, download
from segviz_trainer.models.exported import WEIGHTS, assemble, is_complete
from segviz_trainer.models.folder import complete, staged
from segviz_trainer.models.modelcard import Sources

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exporter:
    """Puts a finished federation together."""

    store: Store
    scratch: Path
    output: Path
    """Gets a folder for each variant: `model.safetensors`, `model.json`, and what makes it a MONAI bundle."""

    def run(self) -> None:
        final = read(self.store, keys.FINAL, Final)
        control = read(self.store, keys.control(final.control), Control)
        found = {alias: self._outcome(alias, final) for alias in control.active}
        outcomes = {alias: outcome for alias, outcome in found.items() if outcome is not None}
        if absent := sorted(found.keys() - outcomes.keys()):
            # Left out after the final model was chosen, where `minSites` allows it.
            log.warning("exporting without %s: no outcome", ", ".join(absent))
        # As the manifest asks, whatever a site calls its results.
        wanted = (Variant.BASE,) if control.spec.fine_tuning is None else tuple(Variant)
        for variant in wanted:
            self._export(variant, final, control, outcomes)

    def _export(
        self, variant: Variant, final: Final, control: Control, outcomes: Mapping[str, Outcome]
    ) -> None:
        releases = {
            alias: outcome.variants[variant].release if variant in outcome.variants else None
            for alias, outcome in outcomes.items()
        }
        founding = read(self.store, keys.round_record(0), Round)
        initial = self._open(keys.global_blob(founding.blob), founding.blob)
        schema, groups = with_organs(initial.infos, decode_groups(initial.metadata[GROUPS]), control.organs)
        record = read(self.store, keys.round_record(final.round), Round)
        shared = self._open(keys.global_blob(record.blob), record.blob).read_all()
        released = {alias: self._released(alias, digest, schema) for alias, digest in releases.items()}

        organs, tensors = [], shared
        for organ in control.organs:
            # An owner that releases nothing must not take the others' away from the mean.
            owners = [released[alias] for alias in control.owners(organ) if released.get(alias)]
            own = assemble(organ, owners, groups)
            if is_complete(organ, {**shared, **own}, groups):
                organs.append(organ)
                tensors = tensors | own
            else:
                log.warning("%s: %s is left out, its owners release too little of it", variant, organ)
        # Nobody shares BatchNorm's counters, and with a momentum nothing reads them; a state dict has them.
        counters = {
            name: np.zeros(schema[name].shape, np.int64)
            for name, group in groups.items()
            if group.kind == COUNTER and group.block in (REPRESENTATION, SHARED_HEAD, *organs)
        }
        held = {name for name in groups if groups[name].block in (REPRESENTATION, SHARED_HEAD, *organs)}
        kept = {name: value for name, value in tensors.items() if name not in groups or name in held}
        channels = read(self.store, keys.control(founding.control), Control).organs
        exported = Exported(
            variant=variant,
            round=final.round,
            blob="",
            size_bytes=0,
            organs=tuple(organs),
            all_organs=channels if control.shared_head else tuple(organs),
            spec=control.spec,
        )
        sources = Sources(
            sites={alias: control.members[alias].organs for alias in control.active},
            cases=self._cases(record),
            outcomes=outcomes,
        )
        self._write(exported, kept | counters, {GROUPS: encode_groups(groups)}, sources)

    def _cases(self, record: Round) -> dict[str, int]:
        """Training cases by alias, as the round's updates say."""
        closing = find(self.store, keys.closing(record.round), Closing)
        cases = {}
        for participant in closing.participants if closing else ():
            key = keys.update(participant.site, record.round, participant.attempt)
            try:
                update = find(self.store, key, Update)
            except InvalidRecord as error:
                # It was one when the round closed; its site has written over it since.
                log.warning("%s: its training cases are not told: %s", participant.site, error)
                continue
            if update is not None:
                cases[participant.site] = update.cases
        return cases

    def _write(
        self, exported: Exported, tensors: Mapping[str, Array], metadata: Mapping[str, str], sources: Sources
    ) -> None:
        """The folder first, then the bucket; the record last, as it says that all the rest is there."""
        folder = self.output / exported.variant
        with staged(folder) as beside:
            path = beside / WEIGHTS
            digest = codec.save(path, tensors, metadata)
            exported = msgspec.structs.replace(exported, blob=digest, size_bytes=path.stat().st_size)
            complete(beside, exported, sources)
            self.store.upload(keys.exported_blob(digest), path)
        commit(self.store, keys.exported(exported.variant), exported)
        log.info("exported %s: %s", exported.variant, folder)

    def _outcome(self, alias: str, final: Final) -> Outcome | None:
        try:
            outcome = find(self.store, keys.outcome(alias), Outcome)
            if outcome and (fault := fault_of_outcome(outcome, final)):
                raise InvalidRecord(fault)
        except InvalidRecord as error:
            log.warning("%s: its outcome is not used: %s", alias, error)
            return None
        return outcome

    def _released(self, alias: str, digest: str | None, schema: Mapping[str, TensorInfo]) -> dict[str, Array]:
        """What a site released, if it is what it should be; one site's mistake must not cost the others."""
        if digest is None:
            return {}
        try:
            most = MAX_HEADER_BYTES + sum(info.size_bytes for info in schema.values())
            file = self._open(keys.release_blob(alias, digest), digest, most)
            return checked(file, schema)
        except (NotFound, Corrupt, InvalidTensors) as error:
            log.warning("%s: its release is not used: %s", alias, error)
            return {}

    def _open(self, key: str, digest: str, max_bytes: int = MAX_BLOB_BYTES) -> TensorFile:
        return codec.open_tensors(download(self.store, key, digest, self.scratch, max_bytes))


def checked(file: TensorFile, schema: Mapping[str, TensorInfo]) -> dict[str, Array]:
    """The tensors of a release.

    Raises:
        InvalidTensors: a name, shape or dtype that the federation's model lacks, or a value that none has.
    """
    for name, info in file.infos.items():
        if schema.get(name) != info:
            raise InvalidTensors(f"tensor {name!r} is {info}, in the model it is {schema.get(name)}")
        if fault := fault_of(name, file.chunks(name)):
            raise InvalidTensors(fault)
    return file.read_all()
