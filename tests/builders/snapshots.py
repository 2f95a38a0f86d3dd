"""Snapshots of a federation's records, as `observe` reads them from a store."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import encode
from segviz_exchange.contract.progress import Progress
from segviz_exchange.contract.records import (
    Closing,
    Control,
    Exported,
    ExternalScores,
    Final,
    Outcome,
    Record,
    Round,
    RoundScores,
)
from segviz_exchange.stores.folder import FolderStore
from segviz_operator.progress.facts import FederationRecords, Heartbeat
from segviz_operator.progress.observe import Observer

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DIGEST = "0" * 64


def snapshot(
    control: Control,
    *,
    rounds: dict[int, float] | None = None,
    scores: tuple[RoundScores, ...] = (),
    progress: dict[str, Progress] | None = None,
    final: Final | None = None,
    outcomes: list[Outcome] | None = None,
    externals: list[ExternalScores] | None = None,
    exports: dict[str, Exported] | None = None,
) -> FederationRecords:
    """What the observer makes of these records at noon.

    Args:
        rounds: how many seconds before noon each round was committed.
        progress: by site; each heartbeat is two seconds old.
    """
    rounds = rounds or {}
    objects: dict[str, Record] = {keys.control(control.number): control}
    for number in rounds:
        objects[keys.closing(number)] = Closing(number, control.number, (), ())
        objects[keys.round_record(number)] = Round(number, control.number, DIGEST, 1, control.active)
    objects |= {keys.scores(each.site, each.round): each for each in scores}
    objects |= {keys.progress(site): each for site, each in (progress or {}).items()}
    objects |= {keys.outcome(each.site): each for each in outcomes or ()}
    objects |= {keys.external_scores(each.site): each for each in externals or ()}
    objects |= {keys.exported(variant): each for variant, each in (exports or {}).items()}
    if final is not None:
        objects[keys.FINAL] = final
    with TemporaryDirectory() as folder:
        store = FolderStore(Path(folder))
        for key, record in objects.items():
            store.put(key, encode(record))
        read = Observer(store).read()
    return _at_noon(read, rounds)


def _at_noon(records: FederationRecords, rounds: dict[int, float]) -> FederationRecords:
    sites = {
        alias: replace(
            site,
            heartbeat=site.heartbeat and Heartbeat(site.heartbeat.progress, NOON - timedelta(seconds=2)),
        )
        for alias, site in records.sites.items()
    }
    committed = {number: NOON - timedelta(seconds=seconds) for number, seconds in rounds.items()}
    return replace(records, now=NOON, committed=committed, sites=sites)
