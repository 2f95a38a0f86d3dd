"""A study's results, read from the records of its rows."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from segviz_exchange.contract.records import Variant
from segviz_exchange.contract.study import StudyIndex
from segviz_trainer.study.results import IN_FEDERATION, Cost, Overlap, Point, Results
from segviz_trainer.study.run import RunRecords, read_run


def read_results(index: StudyIndex, folder: Path) -> Results:
    results = Results(index.name, baseline=index.baseline, central=index.central)
    begun = {row.name: row for row in index.rows}
    for name in index.planned:
        row = begun.get(name)
        run = None if row is None else read_run(row.open_store(folder))
        # Half of a row would be compared with whole ones.
        if run is None or run.awaited:
            results.unfinished.append(name)
        else:
            add_run(results, name, run)
    results.organs.sort()
    return results


def add_run(results: Results, name: str, run: RunRecords) -> None:
    """The run's methods: what it trained, and `+FT` where that was fine-tuned."""
    for variant in Variant:
        if variant is Variant.TUNED and run.control.spec.fine_tuning is None:
            continue
        method = name + variant.suffix
        results.methods.append(method)
        for alias, outcome in run.outcomes.items():
            if variant in outcome.variants:
                results.add(IN_FEDERATION, method, alias, outcome.variants[variant])
        for alias, scores in run.external.items():
            if variant in scores.variants:
                results.add(alias, method, alias, scores.variants[variant])
                overlap = scores.variants[variant].overlap
                if overlap is not None:
                    results.overlaps.append(Overlap(alias, method, overlap))
    results.curves += _curves(name, run)
    results.costs.append(_cost(name, run))


def _curves(row: str, run: RunRecords) -> Iterator[Point]:
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for alias in run.control.active:
        for number, scores in run.scores[alias].items():
            for organ, dice in scores.dice.items():
                found[organ, number].append(dice.mean)
    for (organ, number), values in sorted(found.items()):
        yield Point(row, organ, number, sum(values) / len(values))


def _cost(row: str, run: RunRecords) -> Cost:
    control = run.control
    updates = [fact.said for facts in run.updates.values() for fact in facts]
    return Cost(
        row=row,
        algorithm=str(control.spec.algorithm.name),
        objective="" if control.spec.algorithm.name.is_central else str(control.spec.objective),
        rounds=max(run.rounds),
        chosen_round=run.final.said.round,
        sites=len(control.active),
        training_seconds=sum(update.seconds for update in updates),
        fine_tuning_epochs=control.spec.fine_tuning.epochs if control.spec.fine_tuning else 0,
        wall_seconds=(run.moments[-1] - run.moments[0]).total_seconds(),
        uploaded_bytes=sum(update.size_bytes for update in updates),
        downloaded_bytes=sum(fact.said.size_bytes * len(control.active) for fact in run.rounds.values()),
        model_bytes=max((each.size_bytes for each in run.exports.values()), default=0),
    )
