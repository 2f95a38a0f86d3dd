"""Putting a finished federation's model together, and into the bucket, for evaluation and for use.

Only the evaluation's identity can read what sites released, so this runs under it.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segviz_exchange import codec, keys
from segviz_exchange.codec import Array
from segviz_exchange.records import Control, Exported, Final, Outcome, Round, commit, encode, find, read
from segviz_exchange.sharing import GROUPS, TensorGroup, decode_groups, encode_groups, with_organs
from segviz_exchange.store import Store, download
from segviz_trainer.exported import assemble, is_complete

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exporter:
    """Puts a finished federation together."""

    store: Store
    scratch: Path
    output: Path
    """Gets one folder per variant: `model.safetensors` and `model.json`."""

    def run(self) -> None:
        final = read(self.store, keys.FINAL, Final)
        control = read(self.store, keys.control(final.control), Control)
        found = {alias: find(self.store, keys.outcome(alias), Outcome) for alias in control.active}
        outcomes = {alias: outcome for alias, outcome in found.items() if outcome is not None}
        if absent := sorted(found.keys() - outcomes.keys()):
            # Left out after the final model was chosen, where `minSites` allows it.
            log.warning("without %s: no outcome", ", ".join(absent))
        variants = sorted(set.intersection(*(set(outcome.variants) for outcome in outcomes.values())))
        for variant in variants:
            releases = {alias: outcome.variants[variant].release for alias, outcome in outcomes.items()}
            self._export(variant, final, control, releases)

    def _export(
        self, variant: str, final: Final, control: Control, releases: Mapping[str, str | None]
    ) -> None:
        tensors, groups = self._initial(control)
        record = read(self.store, keys.round_record(final.round), Round)
        shared = self._read(keys.global_blob(record.blob), record.blob)
        tensors |= shared
        released = {
            alias: {} if digest is None else self._read(keys.release_blob(alias, digest), digest)
            for alias, digest in releases.items()
        }
        organs = []
        for organ in control.organs:
            own = assemble(
                organ, [released[alias] for alias in control.owners(organ) if alias in released], groups
            )
            if is_complete(organ, {**shared, **own}, groups, control):
                organs.append(organ)
                tensors |= own
            else:
                log.warning("%s: %s is left out, its owners release too little of it", variant, organ)
        folder = self.output / variant
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "model.safetensors"
        digest = codec.save(path, tensors, {GROUPS: encode_groups(groups)})
        self.store.upload(keys.exported_blob(digest), path)
        size = path.stat().st_size
        exported = Exported(variant, final.round, digest, size, tuple(organs), control.organs, control.spec)
        held = commit(self.store, keys.exported(variant), exported)
        folder.joinpath("model.json").write_bytes(encode(held))
        log.info("exported %s: %s", variant, path)

    def _initial(self, control: Control) -> tuple[dict[str, Array], dict[str, TensorGroup]]:
        """Round 0's model, for what nobody shares or releases (counters), and the groups of its tensors."""
        record = read(self.store, keys.round_record(0), Round)
        file = codec.open_tensors(
            download(self.store, keys.global_blob(record.blob), record.blob, self.scratch)
        )
        _, groups = with_organs(file.infos, decode_groups(file.metadata[GROUPS]), control.organs)
        return file.read_all(), groups

    def _read(self, key: str, digest: str) -> dict[str, Array]:
        return codec.open_tensors(download(self.store, key, digest, self.scratch)).read_all()
