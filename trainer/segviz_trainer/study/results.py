"""What the rows of a study have come to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from segviz_exchange.contract.records import CaseScore, Dice, Surface, VariantOutcome

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
class ScoredCase:
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
    fold: int | None = None
    """Where the study rotates its cases."""


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
        mean = getattr(self.surface, metric.field)
        # Older records lack a metric that came later.
        return None if mean is None else (mean, getattr(self.surface, f"{metric.field}_sd"))


@dataclass(frozen=True)
class Overlap:
    """Voxels that more than one organ claims, of those that any claims."""

    table: str
    method: str
    rate: float


@dataclass(frozen=True)
class Point:
    """Validation Dice of one organ after one round, averaged over the sites that have it."""

    method: str
    organ: str
    round: int
    epoch: int
    """Of training at each site, up to that round: rows of a study merge at different intervals."""
    dice: float


@dataclass(frozen=True)
class Cost:
    """What a row took, and what it was."""

    row: str
    algorithm: str
    objective: str
    """Empty where the algorithm brings its own."""
    rounds: int
    chosen_round: int | None
    """None, as below, where only scores were kept."""
    sites: int
    training_seconds: float
    """Summed over sites and rounds."""
    fine_tuning_epochs: int
    wall_seconds: float | None
    """From the first record to the last, pauses included."""
    uploaded_bytes: int | None
    downloaded_bytes: int | None
    model_bytes: int | None
    """The exported model's."""
    fold: int | None = None
    """Where the study rotates its cases: each fold has a cost of its own."""


@dataclass
class Results:
    name: str
    methods: list[str] = field(default_factory=list)
    organs: list[str] = field(default_factory=list)
    cases: list[ScoredCase] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    overlaps: list[Overlap] = field(default_factory=list)
    curves: list[Point] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    """Rows without a result yet."""
    folds: tuple[int, ...] = ()
    """Those that the tables hold, where the study rotates its cases."""
    planned_folds: int | None = None
    code: str | None = None
    """Digest of the code behind all kept scores."""
    baseline: str | None = None
    central: str | None = None
    under_test: str | None = None
    """The one federated method that the manifest names ahead of its scores."""
    owners: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    """By row and organ: the sites that annotate it and took part."""

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

    def values(
        self, table: str, method: str, organ: str, metric: Metric, site: str | None = None
    ) -> dict[str, float]:
        """By case, of one site or of all; empty where a site keeps its rows."""
        found: dict[str, float] = {}
        for case in self.cases:
            if (case.table, case.method, case.organ) == (table, method, organ) and site in (None, case.site):
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

    def add(
        self, table: str, method: str, site: str, outcome: VariantOutcome, fold: int | None = None
    ) -> None:
        for organ, dice in sorted(outcome.test.items()):
            if organ not in self.organs:
                self.organs.append(organ)
            rows = [each for each in outcome.cases if each.organ == organ]
            if not rows:
                self.summaries.append(Summary(table, method, site, organ, dice, outcome.surface.get(organ)))
            for each in rows:
                self.add_case(table, method, site, each, fold)

    def add_case(self, table: str, method: str, site: str, score: CaseScore, fold: int | None) -> None:
        if score.organ not in self.organs:
            self.organs.append(score.organ)
        # A site may test a case in two folds: two models, and two values.
        case = score.case if fold is None or table != IN_FEDERATION else f"{fold}/{score.case}"
        values = dict(_values(score))
        self.cases.append(ScoredCase(table, method, site, score.organ, case, values, is_missed(score), fold))


def _values(score: CaseScore) -> Iterator[tuple[str, float]]:
    for metric in METRICS:
        value = getattr(score, metric.field)
        if value is not None:
            yield metric.name, float(value)


def is_missed(score: CaseScore) -> bool:
    """Nothing of the organ was found."""
    return score.dice == 0.0 if score.missed is None else score.missed
