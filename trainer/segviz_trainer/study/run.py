"""All that a finished run's records say, read once for its report."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from segviz_exchange.contract import keys
from segviz_exchange.contract.claims import fault_of_outcome
from segviz_exchange.contract.ledger import AnyRecord, InvalidRecord, as_rejection, newest_control, read
from segviz_exchange.contract.listing import Listing
from segviz_exchange.contract.records import (
    Closing,
    Control,
    Exported,
    ExternalScores,
    Failure,
    Final,
    Outcome,
    Record,
    Rejection,
    Round,
    RoundScores,
    Update,
    Variant,
)
from segviz_exchange.stores.store import Entry, Store

AnyFact = TypeVar("AnyFact", bound=Record)


@dataclass(frozen=True)
class Fact(Generic[AnyFact]):
    """A record, and when it became true, by the store's clock."""

    said: AnyFact
    at: datetime


@dataclass(frozen=True)
class RunRecords:
    controls: Mapping[int, Fact[Control]]
    final: Fact[Final]
    rounds: Mapping[int, Fact[Round]]
    closings: Mapping[int, Fact[Closing]]
    failures: tuple[Fact[Failure], ...]
    rejections: tuple[Fact[Rejection], ...]
    updates: Mapping[str, tuple[Fact[Update], ...]]
    """By alias, in the order of rounds and attempts; rejected ones too."""
    scores: Mapping[str, Mapping[int, RoundScores]]
    """By alias and round."""
    outcomes: Mapping[str, Outcome]
    external: Mapping[str, ExternalScores]
    exports: Mapping[Variant, Exported]
    moments: tuple[datetime, ...]
    """When records were written, first to last; heartbeats, which are replaced again and again, are none."""
    unreadable: tuple[str, ...]
    """What sites wrote that is no record; it counts as absent."""

    @property
    def control(self) -> Control:
        """The newest."""
        return self.controls[max(self.controls)].said

    @property
    def awaited(self) -> tuple[str, ...]:
        """Sites that take part and have no result."""
        evaluating = [member.alias for member in self.control.spec.evaluation.sites]
        return (
            *(alias for alias in self.control.active if alias not in self.outcomes),
            *(alias for alias in evaluating if alias not in self.external),
        )


def read_run(store: Store) -> RunRecords | None:
    """None as long as there is no final model.

    Raises:
        InvalidRecord: an object of the operator's or the aggregator's is no record of this version.
    """
    reading = _Reading(store)
    final = reading.one(keys.FINAL, Final)
    controls = reading.numbered(keys.CONTROLS, Control)
    if final is None or not controls:
        return None
    members = sorted({alias for each in controls.values() for alias in each.said.members})
    newest = controls[max(controls)].said
    evaluating = [member.alias for member in newest.spec.evaluation.sites]
    outcomes = {alias: reading.outcome(alias, final.said) for alias in sorted(newest.members)}
    external = {alias: reading.one(keys.external_scores(alias), ExternalScores) for alias in evaluating}
    exports = {variant: reading.one(keys.exported(variant), Exported) for variant in Variant}
    return RunRecords(
        controls=controls,
        final=final,
        rounds=reading.numbered(keys.ROUNDS, Round),
        closings=reading.numbered(keys.CLOSINGS, Closing),
        failures=reading.below(keys.FAILURES, Failure),
        rejections=reading.below(keys.REJECTIONS, Rejection),
        updates={alias: reading.below(keys.all_updates(alias), Update) for alias in members},
        scores={
            alias: {
                number: fact.said
                for number, fact in reading.numbered(keys.all_scores(alias), RoundScores).items()
            }
            for alias in members
        },
        outcomes={alias: fact.said for alias, fact in outcomes.items() if fact is not None},
        external={alias: fact.said for alias, fact in external.items() if fact is not None},
        exports={variant: fact.said for variant, fact in exports.items() if fact is not None},
        moments=tuple(sorted(_moments(reading.listed.values()))),
        unreadable=tuple(reading.unreadable),
    )


class _Reading:
    """One listing, and what is in it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        entries = Listing().of(store, "", lambda: newest_control(store))
        self.listed = {entry.key: entry for entry in entries if entry.key.endswith(".json")}
        self.unreadable: list[str] = []

    def one(self, key: str, kind: type[AnyRecord]) -> Fact[AnyRecord] | None:
        if key not in self.listed:
            return None
        try:
            return Fact(read(self._store, key, kind), self.listed[key].modified)
        except InvalidRecord as error:
            if kind is Rejection:
                held = as_rejection(key, error)
                assert isinstance(held, kind)
                return Fact(held, self.listed[key].modified)
            # One site's fault must not cost the others their report.
            if not key.startswith(keys.SITES):
                raise
            self.unreadable.append(str(error))
            return None

    def outcome(self, alias: str, final: Final) -> Fact[Outcome] | None:
        found = self.one(keys.outcome(alias), Outcome)
        if found is not None and (fault := fault_of_outcome(found.said, final)):
            self.unreadable.append(fault)
            return None
        return found

    def numbered(self, prefix: str, kind: type[AnyRecord]) -> dict[int, Fact[AnyRecord]]:
        """Directly under `prefix`, in their order."""
        found = {keys.number_below(prefix, key): key for key in self.listed if key.startswith(prefix)}
        facts = {
            number: self.one(found[number], kind) for number in sorted(n for n in found if n is not None)
        }
        return {number: fact for number, fact in facts.items() if fact is not None}

    def below(self, prefix: str, kind: type[AnyRecord]) -> tuple[Fact[AnyRecord], ...]:
        """Numbered ones anywhere under `prefix`, in the order of their keys."""
        ours = sorted(key for key in self.listed if key.startswith(prefix) and _is_numbered(key))
        return tuple(fact for key in ours if (fact := self.one(key, kind)) is not None)


def _is_numbered(key: str) -> bool:
    return keys.number_below(f"{key.rpartition('/')[0]}/", key) is not None


def _moments(entries: Iterable[Entry]) -> Iterable[datetime]:
    return (entry.modified for entry in entries if not entry.key.endswith("/progress.json"))
