"""Which blobs nobody needs any more, and a federation's end under `deletionPolicy: Delete`.

Records stay: they are small, and the history of a model. What goes is decided anew each time from a listing
and the records, so nothing has to be remembered and a process may die in between.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import Selection
from segviz_exchange.contract.records import Round
from segviz_exchange.stores.store import Endless, Entry, Store
from segviz_operator.progress.dice import best_so_far
from segviz_operator.progress.facts import FederationRecords

MAX_DELETES = 100
"""In one turn, so that none takes long. What is left goes in the next ones."""

_GLOBAL_BLOBS = keys.global_blob("")


@dataclass(frozen=True)
class Blobs:
    """What a listing of the prefix says of models and updates."""

    models: Mapping[str, Entry]
    """By digest."""
    updates: tuple[Entry, ...]


def blobs_in(entries: Iterable[Entry]) -> Blobs:
    models, updates = {}, []
    for entry in entries:
        if entry.key.startswith(_GLOBAL_BLOBS):
            models[entry.key.removeprefix(_GLOBAL_BLOBS)] = entry
        elif entry.key.startswith(keys.SITES) and entry.key.split("/")[2:3] == ["blobs"]:
            updates.append(entry)
    return Blobs(models, tuple(updates))


def expendable(records: FederationRecords, blobs: Blobs, keep_rounds: int | None) -> tuple[str, ...]:
    """Keys that may go, sorted. None where `keep_rounds` is None, or nobody has committed anything."""
    if keep_rounds is None or records.control is None or not records.rounds:
        return ()
    return tuple(sorted((*_old_models(records, blobs, keep_rounds), *_old_updates(records, blobs))))


def sweep(
    store: Store, records: FederationRecords, entries: Iterable[Entry], keep_rounds: int | None
) -> frozenset[str]:
    """Delete what may go; returns the keys that did, at most MAX_DELETES.

    Args:
        entries: what the listing behind `records` showed.
    """
    doomed = expendable(records, blobs_in(entries), keep_rounds)
    return frozenset(doomed[: delete(store, doomed)])


class Sweeper:
    """Sweeps now and then: one who looks every second need not weigh every blob each time."""

    def __init__(self, store: Store, every_seconds: float = 60.0) -> None:
        self._store = store
        self._every = timedelta(seconds=every_seconds)
        self._swept: datetime | None = None

    def sweep(self, records: FederationRecords, entries: Iterable[Entry], keep_rounds: int | None) -> int:
        """How many objects went. Nothing happens until it is time again."""
        early = self._swept is not None and records.now < self._swept + self._every
        if keep_rounds is None or early:
            return 0
        gone = len(sweep(self._store, records, entries, keep_rounds))
        if gone < MAX_DELETES:
            self._swept = records.now  # else there may be more to do in the next turn
        return gone


def purge(store: Store, limit: int = MAX_DELETES) -> int:
    """Delete what is below the store's root, at most `limit` objects; returns how many are left.

    Whose records they are goes last: who deletes must be found to be the one.
    """
    try:
        entries = store.list("")
    except Endless as error:
        entries = error.entries  # the rest when these are gone
    for entry in sorted(entries, key=lambda each: each.key.startswith(keys.HOLDERS))[:limit]:
        store.delete(entry.key)
    return max(0, len(entries) - limit)


def delete(store: Store, doomed: Iterable[str], limit: int = MAX_DELETES) -> int:
    """Delete up to `limit` of these; returns how many that were."""
    chosen = tuple(doomed)[:limit]
    for key in chosen:
        store.delete(key)
    return len(chosen)


def _old_models(records: FederationRecords, blobs: Blobs, keep_rounds: int) -> Iterable[str]:
    """Models of rounds other than the first, the newest, the best and the final one.

    A blob that no round record names stays: it may be about to be named.
    """
    kept = {0, *sorted(records.rounds)[-keep_rounds:]}
    if records.final is not None:
        kept.add(records.final.round)
    elif _chooses_the_best(records) and (best := best_so_far(records)) is not None:
        kept.add(best.round)
    needed = {
        digest for number, each in records.rounds.items() if number in kept for digest in _digests(each)
    }
    named = {digest for each in records.rounds.values() for digest in _digests(each)}
    return (blobs.models[digest].key for digest in (named - needed) & blobs.models.keys())


def _chooses_the_best(records: FederationRecords) -> bool:
    assert records.control is not None, "there are rounds, so there is a control"
    return records.control.spec.selection is Selection.BEST


def _old_updates(records: FederationRecords, blobs: Blobs) -> Iterable[str]:
    """Updates for rounds that are committed, as the next ones are, for at least one more timeout.

    What was uploaded before a round was committed was for that round or an earlier one: training for the
    next begins with the commit. Both times are the store's, so this needs no record of an update.
    """
    cutoff = _cutoff(records)
    if cutoff is None:
        return ()
    return (entry.key for entry in blobs.updates if entry.modified < cutoff)


def _cutoff(records: FederationRecords) -> datetime | None:
    control = records.control
    assert control is not None, "there are rounds, so there is a control"
    grace = timedelta(seconds=control.spec.participation.round_timeout_seconds or 0)
    times = [records.committed[number] for number in sorted(records.committed)]
    settled = [now for now, following in pairwise(times) if following + grace <= records.now]
    if records.final is not None and times and times[-1] + grace <= records.now:
        return times[-1]
    return settled[-1] if settled else None


def _digests(round_: Round) -> tuple[str, ...]:
    """The blobs that a round record names: its model, and a server optimiser's state where it has one."""
    return (round_.blob,) if round_.state is None else (round_.blob, round_.state)
