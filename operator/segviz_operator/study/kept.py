"""Finished rows and folds of a study that need not run again: their scores are kept, with what made them."""

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from segviz_exchange.contract import keys
from segviz_exchange.contract.kept_scores import KeptCase, KeptScores, read_csv, to_csv
from segviz_exchange.contract.ledger import newest_control, read
from segviz_exchange.contract.records import Control, ExternalScores, Outcome, Update, Variant, VariantOutcome
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.writing import write_whole
from segviz_exchange.stores.store import Store
from segviz_operator.manifests.digest import digest
from segviz_operator.study.rows import Row

_PACKAGES = ("segviz_aggregator", "segviz_operator.planning", "segviz_trainer")
_SHOWING = ("cli", "pages", "report", "study", "viewer")
"""Rooms of the trainer that train and score nothing."""


def code_digest() -> str:
    """Sixteen hex digits of the files that decide what a row scores: trainer, aggregator, planning."""
    found = hashlib.sha256()
    for package in _PACKAGES:
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            root = Path(place)
            for file in sorted(root.rglob("*.py")):
                name = file.relative_to(root)
                if name.parts[0] not in _SHOWING:
                    found.update(f"{package}/{name.as_posix()}\0".encode())
                    found.update(file.read_bytes())
    return found.hexdigest()[:16]


def manifest_digest(row: Row) -> str:
    """Of what the row's manifest says, its sites' of the fold included."""
    accepted = row.accepted
    sites = {alias: site.spec for alias, site in sorted(accepted.everyone.items())}
    return digest({"federation": accepted.federation.spec, "sites": sites})


class Shelf:
    """The folder of kept scores, which may be under version control."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, row: Row) -> Path:
        return self.root / f"{row.folder.replace('/', '-')}.csv"

    def holds(self, row: Row, code: str) -> bool:
        """Whether the scores of this row and fold are here, made by this code from this manifest.

        Raises:
            Refusal: they are others'; one table holds one digest.
        """
        path = self.file(row)
        if row.fold is None or not path.exists():
            return False
        kept = read_csv(path)
        for what, theirs, ours in (
            ("code", kept.code, code),
            ("manifest", kept.manifest, manifest_digest(row)),
        ):
            if theirs != ours:
                raise Refusal(
                    f"{path}: was made by another {what} (digest {theirs}; it is {ours} now), and one table "
                    "holds one digest. Move the file away to run this row and fold again, or use the version "
                    "that made it."
                )
        return True

    def keep(self, row: Row, store: Store, code: str) -> Path | None:
        """Write the scores of a complete run; None where its sites keep all their case rows."""
        control = newest_control(store)
        assert control is not None, "a run that is complete has one"
        cases = tuple(_cases(store, control))
        if row.fold is None or not cases:
            return None
        kept = KeptScores(row.name, row.fold, code, manifest_digest(row), _seconds(store, control), cases)
        self.root.mkdir(parents=True, exist_ok=True)
        write_whole(self.file(row), to_csv(kept))
        return self.file(row)


def _cases(store: Store, control: Control) -> Iterator[KeptCase]:
    for alias in control.active:
        yield from _of("", alias, read(store, keys.outcome(alias), Outcome).variants)
    for alias in sorted(member.alias for member in control.spec.evaluation.sites):
        yield from _of(alias, alias, read(store, keys.external_scores(alias), ExternalScores).variants)


def _of(table: str, site: str, variants: dict[Variant, VariantOutcome]) -> Iterator[KeptCase]:
    for variant, outcome in sorted(variants.items()):
        for score in sorted(outcome.cases, key=lambda each: (each.organ, each.case)):
            yield KeptCase(variant, table, site, score)


def _seconds(store: Store, control: Control) -> float:
    found = (
        read(store, entry.key, Update).seconds
        for alias in control.members
        for entry in store.list(keys.all_updates(alias))
        if entry.key.endswith(".json")
    )
    return float(sum(found))
