"""What each site gains: every organ of every site, federated against trained alone, over the same cases."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from segviz_exchange.contract.choices import AlgorithmName
from segviz_exchange.process.errors import Refusal
from segviz_trainer.study.answer import compare_with_alone
from segviz_trainer.study.intervals import Interval, interval_of
from segviz_trainer.study.results import DICE, IN_FEDERATION, Results
from segviz_trainer.study.standing import NOT_FEDERATED
from segviz_trainer.study.statistics import Paired, compare, holm
from segviz_trainer.study.tables import Table


@dataclass(frozen=True)
class Gain:
    """Of one site and organ, in Dice."""

    table: str
    """Where it was scored: an external set, or the site's own test cases."""
    site: str
    organ: str
    method: str
    """The federated one."""
    alone: str
    """The site's own training, which shared nothing."""
    paired: Paired | None
    """Federated − alone, over cases."""
    interval: Interval | None
    """Of that difference."""
    p_holm: float | None = None
    """Over the sites and organs of one table, of one method."""
    refused: str = ""
    """Why there is no gain to tell."""


def gains(results: Results) -> tuple[Gain, ...]:
    """Of every federated method, beside every row in which a site trained alone."""
    rows = dict.fromkeys(cost.row for cost in results.costs if cost.algorithm not in NOT_FEDERATED)
    federated = [method for row in rows for method in (row, f"{row}+FT") if method in results.methods]
    families = (_family(results, table, method) for table in results.tables for method in federated)
    return tuple(gain for family in families for gain in _adjusted(list(family)))


def shown(results: Results, tables: Sequence[Table], found: Sequence[Gain]) -> tuple[Gain, ...]:
    """Those of the method under test; where none is named, of each table's best."""
    best = {each.table: each.federated for each in compare_with_alone(results, tables)}
    return tuple(gain for gain in found if gain.method == (results.under_test or best.get(gain.table)))


def _family(results: Results, table: str, method: str) -> Iterator[Gain]:
    for row, site, organ in _trained_alone(results):
        tuned = f"{row}+FT"
        alone = tuned if method.endswith("+FT") and tuned in results.methods else row
        ours, theirs = (_values(results, table, each, site, organ) for each in (method, alone))
        if not (ours or theirs or _is_hidden(results, table, (method, alone), site, organ)):
            continue
        gain = Gain(table, site, organ, method, alone, None, None)
        owners = results.owners[row][organ]
        if table != IN_FEDERATION and len(owners) > 1:
            refused = (
                f"{', '.join(owners)} annotate {organ} in row {row}: the external set scores the mean of "
                f"their models, which is no site's. Add a row with algorithm Local and {site} as its only "
                "site."
            )
            yield replace(gain, refused=refused)
        elif _is_hidden(results, table, (method, alone), site, organ):
            yield replace(gain, refused="Case rows are kept where they are. Ask for scores: PerCase.")
        else:
            yield _measured(gain, ours, theirs)


def _trained_alone(results: Results) -> Iterator[tuple[str, str, str]]:
    """Row, site and organ. A row of one site tells of it more than one of all sites."""
    rows = dict.fromkeys(cost.row for cost in results.costs if cost.algorithm == AlgorithmName.LOCAL)
    found: dict[tuple[str, str], str] = {}
    for row in rows:
        for organ, owners in results.owners.get(row, {}).items():
            for site in owners:
                known = found.get((site, organ))
                if known is None or len(owners) < len(results.owners[known][organ]):
                    found[site, organ] = row
    for (site, organ), row in sorted(found.items()):
        yield row, site, organ


def _values(results: Results, table: str, method: str, site: str, organ: str) -> dict[str, float]:
    """By case: of the external set, or of the site's own test cases."""
    own = site if table == IN_FEDERATION else None
    return results.values(table, method, organ, DICE, own)


def _is_hidden(results: Results, table: str, methods: tuple[str, str], site: str, organ: str) -> bool:
    return any(
        table != IN_FEDERATION or each.site == site
        for method in methods
        for each in results.hidden(table, method, organ)
    )


def _measured(gain: Gain, ours: Mapping[str, float], theirs: Mapping[str, float]) -> Gain:
    names = (f"{gain.method} ({gain.organ})", f"{gain.alone} ({gain.organ})")
    try:
        paired = compare(ours, theirs, names)
    except Refusal as refusal:
        return replace(gain, refused=str(refusal))
    interval = interval_of(ours[case] - theirs[case] for case in sorted(ours))
    return replace(gain, paired=paired, interval=interval)


def _adjusted(family: Sequence[Gain]) -> Iterator[Gain]:
    adjusted = iter(holm([gain.paired.p for gain in family if gain.paired]))
    for gain in family:
        yield replace(gain, p_holm=next(adjusted)) if gain.paired else gain


def gain_cells(gain: Gain) -> tuple[str, ...]:
    """A row of a table: site, organ, where, gain, interval, cases. Its gain must not be refused."""
    assert gain.paired is not None, gain.refused
    where = "own test cases" if gain.table == IN_FEDERATION else gain.table
    return (
        gain.site,
        gain.organ,
        where,
        f"{gain.paired.difference:+.3f}",
        str(gain.interval),
        str(gain.paired.cases),
    )
