"""A study's results, read from the records of its rows, and from scores that were kept."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean

from segviz_exchange.contract.kept_scores import KeptScores, read_csv
from segviz_exchange.contract.records import Variant
from segviz_exchange.contract.study import KeptFile, StudyIndex
from segviz_exchange.process.errors import Refusal
from segviz_trainer.study.results import IN_FEDERATION, Cost, Overlap, Point, Results
from segviz_trainer.study.run import RunRecords, read_run

Part = tuple[str, int | None]
"""Row and fold."""


def read_results(index: StudyIndex, folder: Path) -> Results:
    """Of every row that has finished; where cases rotate, of the folds that all of these have finished.

    Raises:
        Refusal: no fold is there of every row, or kept scores are of several versions of the code.
    """
    results = Results(index.name, baseline=index.baseline, central=index.central, under_test=index.under_test)
    runs = _finished_runs(index, folder)
    files: dict[Part, KeptFile] = {(each.row, each.fold): each for each in index.kept}
    kept = {part: read_csv(folder / file.path) for part, file in files.items()}
    results.planned_folds, results.code = index.folds, _code_of(index, kept)
    parts = {*runs, *kept}
    folds = _folds_of(index, parts)
    results.folds = tuple(fold for fold in folds if fold is not None)
    for name in index.planned:
        if not any((name, fold) in parts for fold in folds):
            results.unfinished.append(name)
            continue
        for fold in folds:
            if (name, fold) in runs:  # it knows more than scores
                add_run(results, name, runs[name, fold], fold)
            else:
                _add_kept(results, files[name, fold], kept[name, fold])
    _check_folds(results)
    results.curves = list(_averaged(results.curves))
    results.organs.sort()
    return results


def _finished_runs(index: StudyIndex, folder: Path) -> dict[Part, RunRecords]:
    found = {(row.name, row.fold): read_run(row.open_store(folder)) for row in index.rows}
    # Half of a row would be compared with whole ones.
    return {part: run for part, run in found.items() if run is not None and not run.awaited}


def _folds_of(index: StudyIndex, parts: Iterable[Part]) -> tuple[int | None, ...]:
    """Those of every row that has finished any: methods are compared over the same cases."""
    if index.folds is None:
        return (None,)
    by_row: dict[str, set[int]] = defaultdict(set)
    for row, fold in parts:
        if fold is not None:
            by_row[row].add(fold)
    if not by_row:
        return tuple(range(1, index.folds + 1))
    common = sorted(set.intersection(*by_row.values()))
    if not common:
        told = "; ".join(f"{row}: {', '.join(map(str, sorted(by_row[row])))}" for row in sorted(by_row))
        raise Refusal(f"{index.name}: no fold is finished by every row ({told}). Run the study on.")
    return tuple(common)


def _code_of(index: StudyIndex, kept: Mapping[Part, KeptScores]) -> str | None:
    """One table holds one digest."""
    files = {each.code: part for part, each in kept.items()}
    if len(files) > 1:
        told = "; ".join(f"{code}: {row}, fold {fold}" for code, (row, fold) in sorted(files.items()))
        raise Refusal(
            f"{index.name}: kept scores are of {len(files)} versions of the code ({told}), and one table "
            "holds one. Move those of other versions away and run the study on."
        )
    return next(iter(files), None)


def _check_folds(results: Results) -> None:
    """Raises Refusal where a case of an external set is in two folds: it would count twice."""
    seen: dict[tuple[str, str, str, str, str], int | None] = {}
    for case in results.cases:
        key = (case.table, case.method, case.site, case.organ, case.case)
        if case.table != IN_FEDERATION and seen.setdefault(key, case.fold) != case.fold:
            raise Refusal(
                f"{results.name}: case {case.case} of {case.table} is in folds {seen[key]} and {case.fold}. "
                "Let spec.rotate.by be the number of its cases, and folds times by at most the folder's."
            )


def add_run(results: Results, name: str, run: RunRecords, fold: int | None = None) -> None:
    """The run's methods: what it trained, and `+FT` where that was fine-tuned."""
    for variant in Variant:
        if variant is Variant.TUNED and run.control.spec.fine_tuning is None:
            continue
        method = name + variant.suffix
        if method not in results.methods:
            results.methods.append(method)
        for alias, outcome in run.outcomes.items():
            if variant in outcome.variants:
                results.add(IN_FEDERATION, method, alias, outcome.variants[variant], fold)
        for alias, scores in run.external.items():
            if variant in scores.variants:
                results.add(alias, method, alias, scores.variants[variant], fold)
                overlap = scores.variants[variant].overlap
                if overlap is not None:
                    results.overlaps.append(Overlap(alias, method, overlap))
    results.owners[name] = {organ: run.control.owners(organ) for organ in run.control.organs}
    results.curves += _curves(name, run)
    results.costs.append(_cost(name, run, fold))


def _add_kept(results: Results, file: KeptFile, kept: KeptScores) -> None:
    for case in kept.cases:
        method = file.row + case.variant.suffix
        if method not in results.methods:
            results.methods.append(method)
        results.add_case(case.table or IN_FEDERATION, method, case.site, case.score, file.fold)
    results.owners[file.row] = file.owners
    results.costs.append(
        Cost(
            row=file.row,
            algorithm=str(file.algorithm),
            objective="" if file.algorithm.is_central else str(file.objective),
            rounds=file.rounds,
            chosen_round=None,
            sites=len({site for owners in file.owners.values() for site in owners}),
            training_seconds=kept.training_seconds,
            fine_tuning_epochs=0,
            wall_seconds=None,
            uploaded_bytes=None,
            downloaded_bytes=None,
            model_bytes=None,
            fold=file.fold,
        )
    )


def _curves(row: str, run: RunRecords) -> Iterator[Point]:
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for alias in run.control.active:
        for number, scores in run.scores[alias].items():
            for organ, dice in scores.dice.items():
                found[organ, number].append(dice.mean)
    for (organ, number), values in sorted(found.items()):
        epoch = number * run.control.spec.local_epochs
        yield Point(row, organ, number, epoch, fmean(values))


def _averaged(points: Iterable[Point]) -> Iterator[Point]:
    """Over folds, in the order of rows."""
    found: dict[tuple[str, str, int, int], list[float]] = defaultdict(list)
    for point in points:
        found[point.method, point.organ, point.round, point.epoch].append(point.dice)
    for place, values in found.items():
        yield Point(*place, fmean(values))


def _cost(row: str, run: RunRecords, fold: int | None) -> Cost:
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
        fold=fold,
    )
