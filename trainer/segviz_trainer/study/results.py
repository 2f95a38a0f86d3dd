"""What the rows of a study have come to, read from their records."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import find, newest_control, numbered, read
from segviz_exchange.contract.records import (
    CaseScore,
    Control,
    Dice,
    Exported,
    ExternalScores,
    Final,
    Outcome,
    Round,
    RoundScores,
    Surface,
    Update,
    Variant,
    VariantOutcome,
)
from segviz_exchange.contract.study import StudyIndex, StudyRow
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.store import Entry, Store

IN_FEDERATION = "In-federation"
"""The held-back test parts of the training sites."""


@dataclass(frozen=True)
class Metric:
    name: str
    field: str
    """Of a case's record."""
    unit: str
    digits: int
    higher_is_better: bool


DICE = Metric("Dice", "dice", "", 3, higher_is_better=True)
METRICS = (
    DICE,
    Metric("HD95", "hd95", "mm", 2, higher_is_better=False),
    Metric("NSD", "nsd", "", 3, higher_is_better=True),
)


@dataclass(frozen=True)
class Case:
    """One organ of one case, as one method segmented it."""

    table: str
    """`In-federation`, or the alias of an external set."""
    method: str
    site: str
    organ: str
    case: str
    """Under the study's salt: the same case has the same id in every row."""
    values: Mapping[str, float]
    """By metric."""
    missed: bool


@dataclass(frozen=True)
class Summary:
    """What a site lets out where its case rows stay."""

    table: str
    method: str
    site: str
    organ: str
    dice: Dice
    surface: Surface | None = None
    """None where the site's record has Dice alone."""

    def moments(self, metric: Metric) -> tuple[float, float] | None:
        """Mean and SD over `dice.cases`."""
        if metric is DICE:
            return self.dice.mean, self.dice.sd
        if self.surface is None:
            return None
        return getattr(self.surface, metric.field), getattr(self.surface, f"{metric.field}_sd")


@dataclass(frozen=True)
class Overlap:
    """Voxels that more than one organ claims, of those that any claims."""

    table: str
    method: str
    rate: float


@dataclass(frozen=True)
class Point:
    """Validation Dice of one organ after one round, meaned over the sites that have it."""

    method: str
    organ: str
    round: int
    dice: float


@dataclass(frozen=True)
class Cost:
    """What a row took, and what it was."""

    row: str
    algorithm: str
    objective: str
    """Empty where the algorithm brings its own."""
    rounds: int
    chosen_round: int
    sites: int
    training_seconds: float
    """Summed over sites and rounds."""
    fine_tuning_epochs: int
    wall_seconds: float
    """From the first record to the last, pauses included."""
    uploaded_bytes: int
    downloaded_bytes: int
    model_bytes: int
    """The exported model's."""


@dataclass
class Results:
    name: str
    methods: list[str] = field(default_factory=list)
    organs: list[str] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    overlaps: list[Overlap] = field(default_factory=list)
    curves: list[Point] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    """Rows without a result yet."""
    baseline: str | None = None
    central: str | None = None

    @property
    def tables(self) -> tuple[str, ...]:
        """The in-federation table, then the external ones."""
        found = {case.table for case in self.cases} | {each.table for each in self.summaries}
        return tuple(sorted(found, key=lambda table: (table != IN_FEDERATION, table)))

    def metrics(self, table: str) -> tuple[Metric, ...]:
        """Those that every case and summary of a table has: half a column would compare nothing."""
        cases = [case for case in self.cases if case.table == table]
        summaries = [each for each in self.summaries if each.table == table]
        return tuple(
            metric
            for metric in METRICS
            if all(metric.name in case.values for case in cases)
            and all(each.moments(metric) is not None for each in summaries)
        )

    def values(self, table: str, method: str, organ: str, metric: Metric) -> dict[str, float]:
        """By case; empty where a site keeps its rows."""
        found: dict[str, float] = {}
        for case in self.cases:
            if (case.table, case.method, case.organ) == (table, method, organ):
                # Two sites may call a data set and a case in it the same, under one salt.
                name = case.case if case.case not in found else f"{case.site}/{case.case}"
                found[name] = case.values[metric.name]
        return found

    def hidden(self, table: str, method: str, organ: str) -> list[Summary]:
        """Of sites that keep their rows."""
        return [
            each for each in self.summaries if (each.table, each.method, each.organ) == (table, method, organ)
        ]

    def misses(self, table: str, method: str, organ: str) -> int | None:
        """None where a summary does not say."""
        count = sum(
            case.missed
            for case in self.cases
            if (case.table, case.method, case.organ) == (table, method, organ)
        )
        for each in self.hidden(table, method, organ):
            if each.surface is None:
                return None
            count += each.surface.misses
        return count

    def add(self, table: str, method: str, site: str, outcome: VariantOutcome) -> None:
        for organ, dice in sorted(outcome.test.items()):
            if organ not in self.organs:
                self.organs.append(organ)
            rows = [each for each in outcome.cases if each.organ == organ]
            if not rows:
                self.summaries.append(Summary(table, method, site, organ, dice, outcome.surface.get(organ)))
            self.cases += [
                Case(table, method, site, organ, each.case, dict(_values(each)), is_missed(each))
                for each in rows
            ]


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


def _values(score: CaseScore) -> Iterator[tuple[str, float]]:
    for metric in METRICS:
        value = getattr(score, metric.field)
        if value is not None:
            yield metric.name, float(value)


def is_missed(score: CaseScore) -> bool:
    """Nothing of the organ was found."""
    return score.dice == 0.0 if score.missed is None else score.missed


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
