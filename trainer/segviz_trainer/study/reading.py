"""A study's results, read from the records of its rows."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import find, newest_control, numbered, read
from segviz_exchange.contract.records import (
    Control,
    Exported,
    ExternalScores,
    Final,
    Outcome,
    Round,
    RoundScores,
    Update,
    Variant,
)
from segviz_exchange.contract.study import StudyIndex, StudyRow
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.store import Entry, Store
from segviz_trainer.study.results import IN_FEDERATION, Cost, Overlap, Point, Results


def read_results(index: StudyIndex, folder: Path) -> Results:
    results = Results(index.name, baseline=index.baseline, central=index.central)
    begun = {row.name: row for row in index.rows}
    for name in index.planned:
        row = begun.get(name)
        if row is None or not _read_row(results, row, store_of(row, folder)):
            results.unfinished.append(name)
    results.organs.sort()
    return results


def store_of(row: StudyRow, folder: Path) -> Store:
    return open_store(str(folder / row.store)).scoped(row.prefix)


def _read_row(results: Results, row: StudyRow, store: Store) -> bool:
    """False where the row has no result yet; half of one would be compared with whole ones."""
    control, final = newest_control(store), find(store, keys.FINAL, Final)
    if control is None or final is None:
        return False
    outcomes = {alias: find(store, keys.outcome(alias), Outcome) for alias in control.active}
    external = {
        member.alias: find(store, keys.external_scores(member.alias), ExternalScores)
        for member in control.spec.evaluation.sites
    }
    if None in outcomes.values() or None in external.values():
        return False
    for variant in Variant:
        if variant is Variant.TUNED and control.spec.fine_tuning is None:
            continue
        method = row.name + variant.suffix
        results.methods.append(method)
        for alias, outcome in outcomes.items():
            if outcome is not None and variant in outcome.variants:
                results.add(IN_FEDERATION, method, alias, outcome.variants[variant])
        for alias, scores in external.items():
            if scores is not None and variant in scores.variants:
                results.add(alias, method, alias, scores.variants[variant])
                overlap = scores.variants[variant].overlap
                if overlap is not None:
                    results.overlaps.append(Overlap(alias, method, overlap))
    results.curves += _curves(row.name, store, control)
    results.costs.append(_cost(row.name, store, control, final))
    return True


def _curves(row: str, store: Store, control: Control) -> Iterator[Point]:
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for alias in control.active:
        for number, entry in numbered(store, keys.all_scores(alias)).items():
            for organ, dice in read(store, entry.key, RoundScores).dice.items():
                found[organ, number].append(dice.mean)
    for (organ, number), values in sorted(found.items()):
        yield Point(row, organ, number, sum(values) / len(values))


def _cost(row: str, store: Store, control: Control, final: Final) -> Cost:
    rounds = {number: read(store, entry.key, Round) for number, entry in numbered(store, keys.ROUNDS).items()}
    updates = [
        read(store, entry.key, Update)
        for alias in control.active
        for entry in store.list(keys.all_updates(alias))
    ]
    exports = [find(store, keys.exported(variant), Exported) for variant in Variant]
    moments = list(_moments(store.list("")))
    return Cost(
        row=row,
        algorithm=str(control.spec.algorithm.name),
        objective="" if control.spec.algorithm.name.is_central else str(control.spec.objective),
        rounds=max(rounds),
        chosen_round=final.round,
        sites=len(control.active),
        training_seconds=sum(update.seconds for update in updates),
        fine_tuning_epochs=control.spec.fine_tuning.epochs if control.spec.fine_tuning else 0,
        wall_seconds=(max(moments) - min(moments)).total_seconds(),
        uploaded_bytes=sum(update.size_bytes for update in updates),
        downloaded_bytes=sum(record.size_bytes * len(control.active) for record in rounds.values()),
        model_bytes=max((each.size_bytes for each in exports if each), default=0),
    )


def _moments(entries: Iterable[Entry]) -> Iterator[datetime]:
    for entry in entries:
        # A heartbeat is replaced whenever the command is run again.
        if entry.key.endswith(".json") and not entry.key.endswith("/progress.json"):
            yield entry.modified
