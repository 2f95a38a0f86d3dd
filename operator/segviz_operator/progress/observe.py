"""A federation's records as one typed snapshot, cheap enough to be taken every second.

The store is listed once; records never change, so each is read once and kept under its key; only heartbeats
are read again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from segviz_exchange.contract import keys
from segviz_exchange.contract.closing import MAX_ATTEMPTS
from segviz_exchange.contract.ledger import AnyRecord, InvalidRecord, read
from segviz_exchange.contract.progress import Phase, Preflight, Progress
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
    Spent,
    Update,
    Variant,
)
from segviz_exchange.stores.store import Entry, NotFound, Store
from segviz_operator.plan.decide import Observed
from segviz_operator.plan.workload import Workload

MAX_ROUND_BYTES = 64 << 10
"""Of what a site says of one round, and of a heartbeat. It is kept in memory, and any site may write it."""
MAX_SITE_BYTES = 4 << 20
"""Of what a site says once, such as the scores of all its cases."""


@dataclass(frozen=True)
class Heartbeat:
    progress: Progress
    modified: datetime


@dataclass(frozen=True)
class Delivery:
    """A site's newest update for a round, and when it was committed."""

    update: Update
    modified: datetime


@dataclass(frozen=True)
class SiteFacts:
    """What one site has written, and what was written about it."""

    newest_update: int | None
    """The round of its newest update."""
    scores: dict[int, RoundScores]
    heartbeat: Heartbeat | None
    outcome: Outcome | None
    external: ExternalScores | None
    rejections: tuple[Rejection, ...]
    preflight: Preflight | None = None
    """Of its newest incarnation that has come so far."""
    deliveries: dict[int, Delivery] = field(default_factory=dict)
    """By round."""

    @property
    def spent(self) -> Spent | None:
        """Of its privacy so far; none where its updates leave as they are."""
        told = [each.update.privacy for each in self.deliveries.values() if each.update.privacy]
        return max(told, key=lambda spent: spent.releases, default=None)

    @property
    def has_delivered(self) -> bool:
        """Whether its data are part of a result."""
        return self.newest_update is not None or self.external is not None


@dataclass(frozen=True)
class FederationRecords:
    now: datetime
    """By the store's clock."""
    control: Control | None
    first_control: Control | None
    rounds: dict[int, Round]
    committed: dict[int, datetime]
    closings: dict[int, Closing]
    final: Final | None
    failures: tuple[Failure, ...]
    exports: dict[str, Exported]
    sites: dict[str, SiteFacts]
    """Every site that has written anything, external ones included, by alias."""
    aggregator: Heartbeat | None
    invalid: tuple[str, ...] = ()
    """What sites wrote that is no record, with the reason; such an object counts as absent."""
    closed: dict[int, datetime] = field(default_factory=dict)
    """When it was decided who is in a round."""
    joined: frozenset[str] = frozenset()
    """Sites that were active when the newest round closed, and so may be in the open one."""

    @property
    def carriers(self) -> frozenset[str]:
        """Members by whom the open round can close; where all of them were given up, they nevertheless.

        Nobody before the first model is committed, for until then anybody may begin.
        """
        if self.control is None:
            return frozenset()
        return self.joined.intersection(self.control.active) or self.joined.intersection(self.control.members)

    @property
    def newest_round(self) -> int | None:
        return max(self.rounds, default=None)

    def observed(self, workloads: tuple[Workload, ...] = ()) -> Observed:
        """What `decide` reads of it."""
        return Observed(
            control=self.control,
            workloads=workloads,
            newest_round=self.newest_round,
            final=self.final is not None,
            outcomes=frozenset(alias for alias, site in self.sites.items() if site.outcome),
            exports=frozenset(self.exports),
            externals=frozenset(alias for alias, site in self.sites.items() if site.external),
            failures=self.failures,
            milestones={alias: self._epochs_seen(site) for alias, site in self.sites.items()},
        )

    def _epochs_seen(self, site: SiteFacts) -> int:
        """How many epochs a site has come to; it grows by a scored round and by a heartbeat in training."""
        if self.control is None:
            return 0
        epochs = self.control.spec.local_epochs
        seen = [0 if site.newest_update is None else site.newest_update * epochs + 1, len(site.scores)]
        if site.heartbeat is not None:
            beat = site.heartbeat.progress
            if beat.phase is Phase.TRAINING and beat.round is not None:
                seen.append((beat.round - 1) * epochs + (beat.epoch or 0) + 1)
            if beat.phase is Phase.FINE_TUNING:
                seen.append(self.control.spec.rounds * epochs + (beat.epoch or 0) + 1)
        return max(seen)


def _by_site(listed: dict[str, Entry]) -> dict[str, dict[str, Entry]]:
    sites: dict[str, dict[str, Entry]] = {}
    for key, entry in listed.items():
        for folder in (keys.SITES, keys.REJECTIONS):
            if key.startswith(folder):
                alias = key.removeprefix(folder).partition("/")[0]
                sites.setdefault(alias, {})[key] = entry
    return sites


def _numbered_keys(listed: Iterable[str], prefix: str) -> dict[int, str]:
    """Keys by number, ascending. What somebody else left there (an editor's backup) is none of ours."""
    found = {keys.number_below(prefix, key): key for key in listed if key.startswith(prefix)}
    return {number: found[number] for number in sorted(each for each in found if each is not None)}


def _check_size(entry: Entry, most: int) -> None:
    if entry.size_bytes > most:
        raise InvalidRecord(f"{entry.key}: is {entry.size_bytes} bytes long; at most {most} are read")


def _is_numbered(key: str) -> bool:
    return keys.number_below(f"{key.rpartition('/')[0]}/", key) is not None


class Observer:
    """Reads one federation's prefix. The cache holds nothing that the store could not give again.

    Args:
        folders: what is looked at: all, or as much as the credentials reach.
    """

    def __init__(self, store: Store, folders: Sequence[str] = ("",)) -> None:
        self._store = store
        self._folders = tuple(folders)
        self._cache: dict[str, Record] = {}
        self._invalid: dict[Entry, str] = {}
        """Why; one that was replaced meanwhile is another entry, and is looked at."""
        self.entries: tuple[Entry, ...] = ()
        """The newest listing, blobs included."""

    def reopen(self, store: Store) -> None:
        """The same prefix, with other credentials."""
        self._store = store

    def read(self) -> FederationRecords:
        now = self._store.now()
        self.entries = tuple(entry for folder in self._folders for entry in self._store.list(folder))
        listed = {entry.key: entry for entry in self.entries if entry.key.endswith(".json")}
        self._invalid = {entry: why for entry, why in self._invalid.items() if listed.get(entry.key) == entry}
        controls = _numbered_keys(listed, keys.CONTROLS)
        round_keys = _numbered_keys(listed, keys.ROUNDS)
        control = self._record(listed, controls[max(controls)], Control) if controls else None
        rounds = 0 if control is None else control.spec.rounds
        sites = _by_site(listed)
        found_rounds = self._numbered(listed, keys.ROUNDS, Round)
        return FederationRecords(
            now=now,
            control=control,
            first_control=self._record(listed, controls[min(controls)], Control) if controls else None,
            rounds=found_rounds,
            committed={number: listed[key].modified for number, key in round_keys.items()},
            closings=self._numbered(listed, keys.CLOSINGS, Closing),
            final=self._record(listed, keys.FINAL, Final),
            failures=self._all(listed, keys.FAILURES, Failure),
            exports={
                variant: record
                for variant in Variant
                if (record := self._record(listed, keys.exported(variant), Exported))
            },
            sites={alias: self._site(sites[alias], alias, rounds) for alias in sorted(sites)},
            aggregator=self._heartbeat(listed, keys.AGGREGATOR_PROGRESS),
            invalid=tuple(self._invalid.values()),
            closed={
                number: listed[key].modified for number, key in _numbered_keys(listed, keys.CLOSINGS).items()
            },
            joined=self._joined(listed, found_rounds),
        )

    def _joined(self, listed: dict[str, Entry], rounds: dict[int, Round]) -> frozenset[str]:
        newest = rounds.get(max(rounds, default=0))
        under = newest and self._record(listed, keys.control(newest.control), Control)
        return frozenset(under.active if under else ())

    def _site(self, listed: dict[str, Entry], alias: str, rounds: int) -> SiteFacts:
        # Each round has a folder for its attempts, numbered as a record is.
        folders = {f"{key.rpartition('/')[0]}.json" for key in listed if _is_numbered(key)}
        updates = [number for number in _numbered_keys(folders, keys.all_updates(alias)) if number <= rounds]
        return SiteFacts(
            newest_update=max(updates, default=None),
            scores=self._numbered(listed, keys.all_scores(alias), RoundScores, rounds),
            heartbeat=self._heartbeat(listed, keys.progress(alias)),
            outcome=self._record(listed, keys.outcome(alias), Outcome),
            external=self._record(listed, keys.external_scores(alias), ExternalScores),
            rejections=self._all(listed, keys.all_rejections(alias), Rejection),
            preflight=self._newest(listed, keys.preflights(alias), Preflight),
            deliveries=self._deliveries(listed, alias, rounds),
        )

    def _deliveries(self, listed: dict[str, Entry], alias: str, rounds: int) -> dict[int, Delivery]:
        prefix = keys.all_updates(alias)
        found: dict[int, Delivery] = {}
        # In order, so that a higher attempt replaces a lower one.
        for key in sorted(key for key in listed if key.startswith(prefix) and _is_numbered(key)):
            round_ = keys.number_below(prefix, f"{key.rpartition('/')[0]}.json")
            if round_ is None or round_ > rounds or keys.number_of(key) > MAX_ATTEMPTS:
                continue  # nobody asked for it
            update = self._record(listed, key, Update)
            if update is not None and update.round == round_:
                found[update.round] = Delivery(update, listed[key].modified)
        return found

    def _record(self, listed: dict[str, Entry], key: str, kind: type[AnyRecord]) -> AnyRecord | None:
        if key not in listed:
            return None
        known = self._cache.get(key)
        if isinstance(known, kind):
            return known
        entry = listed[key]
        if entry in self._invalid:
            return None
        try:
            if key.startswith(keys.SITES):
                _check_size(entry, MAX_ROUND_BYTES if kind in (RoundScores, Update) else MAX_SITE_BYTES)
            record = read(self._store, key, kind)
        except InvalidRecord as error:
            # One site's fault must not blind the coordinator; anybody else's is a bug or a version mismatch.
            if not key.startswith(keys.SITES):
                raise
            self._invalid[entry] = str(error)
            return None
        self._cache[key] = record
        return record

    def _newest(self, listed: dict[str, Entry], prefix: str, kind: type[AnyRecord]) -> AnyRecord | None:
        found = _numbered_keys(listed, prefix)
        return self._record(listed, found[max(found)], kind) if found else None

    def _all(self, listed: dict[str, Entry], prefix: str, kind: type[AnyRecord]) -> tuple[AnyRecord, ...]:
        ours = (key for key in listed if key.startswith(prefix) and _is_numbered(key))
        found = (self._record(listed, key, kind) for key in ours)
        return tuple(record for record in found if record is not None)

    def _numbered(
        self, listed: dict[str, Entry], prefix: str, kind: type[AnyRecord], most: int | None = None
    ) -> dict[int, AnyRecord]:
        found = {
            number: self._record(listed, key, kind)
            for number, key in _numbered_keys(listed, prefix).items()
            if most is None or number <= most
        }
        return {number: record for number, record in found.items() if record is not None}

    def _heartbeat(self, listed: dict[str, Entry], key: str) -> Heartbeat | None:
        if key not in listed:
            return None
        try:
            _check_size(listed[key], MAX_ROUND_BYTES)
            return Heartbeat(read(self._store, key, Progress), listed[key].modified)
        except (NotFound, InvalidRecord):
            return None  # removed since it was listed, or a site's mistake; it is replaced in a moment
