"""A federation's records as one typed snapshot, cheap enough to be taken every second.

The store is listed once; records never change, so each is read once and kept under its key; only heartbeats
are read again.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from msgspec.structs import replace

from segviz_exchange.contract import keys
from segviz_exchange.contract.claims import fault_of_outcome
from segviz_exchange.contract.closing import MAX_ATTEMPTS
from segviz_exchange.contract.ledger import (
    AnyRecord,
    InvalidRecord,
    as_rejection,
    check_size,
    encode,
    newest_control,
    read,
)
from segviz_exchange.contract.listing import Listing
from segviz_exchange.contract.progress import Preflight, Progress
from segviz_exchange.contract.records import (
    Closing,
    Control,
    Exported,
    ExternalScores,
    Failure,
    Final,
    Holder,
    Outcome,
    Record,
    Rejection,
    Round,
    RoundScores,
    Update,
    Variant,
)
from segviz_exchange.process.words import plain
from segviz_exchange.stores.store import Entry, NotFound, Store
from segviz_operator.progress.facts import Delivery, FederationRecords, Heartbeat, SiteFacts

HELD_BYTES = 1 << 20
HELD_BYTES_A_ROUND = 8 << 10
"""What is kept of one site: so much, and for each round so much more. An honest one needs a tenth of it."""


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


def _refusals(controls: Iterable[Control]) -> dict[str, int]:
    """How often each site was left out since it is a member, by alias; the controls in their order."""
    times: dict[str, int] = {}
    out: set[str] = set()
    for control in controls:
        left = {alias for alias, member in control.members.items() if member.excluded is not None}
        times = {alias: times.get(alias, 0) + (alias in left - out) for alias in control.members}
        out = left
    return times


def _told(record: Record) -> Record:
    """What is kept of a record: no rows of cases, which nobody here asks for; no text to fool a terminal."""
    match record:
        case Outcome() | ExternalScores():
            variants = {name: replace(each, cases=()) for name, each in record.variants.items()}
            return replace(record, variants=variants)
        case Preflight():
            findings = (
                replace(each, check=plain(each.check), message=plain(each.message))
                for each in record.findings
            )
            return replace(record, findings=tuple(findings))
    return record


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
        self._held: dict[str, int] = {}
        """Bytes of the records that are kept, by the alias of who wrote them."""
        self._most_held = HELD_BYTES
        self._listing = Listing()
        self.entries: tuple[Entry, ...] = ()
        """The newest listing, blobs included."""

    def held_bytes(self, alias: str) -> int:
        """Of what a site has written and is kept here."""
        return self._held.get(alias, 0)

    def reopen(self, store: Store) -> None:
        """The same prefix, with other credentials."""
        self._store = store

    def read(self) -> FederationRecords:
        now = self._store.now()
        self.entries = tuple(
            entry
            for folder in self._folders
            for entry in self._listing.of(self._store, folder, lambda: newest_control(self._store))
        )
        listed = {entry.key: entry for entry in self.entries if entry.key.endswith(".json")}
        self._invalid = {entry: why for entry, why in self._invalid.items() if listed.get(entry.key) == entry}
        controls = _numbered_keys(listed, keys.CONTROLS)
        round_keys = _numbered_keys(listed, keys.ROUNDS)
        control = self._record(listed, controls[max(controls)], Control) if controls else None
        rounds = 0 if control is None else control.spec.rounds
        self._most_held = HELD_BYTES + rounds * HELD_BYTES_A_ROUND
        sites = _by_site(listed)
        for alias in self._listing.crowded:
            sites.setdefault(alias, {})
        found_rounds = self._numbered(listed, keys.ROUNDS, Round)
        final = self._record(listed, keys.FINAL, Final)
        return FederationRecords(
            now=now,
            control=control,
            first_control=self._record(listed, controls[min(controls)], Control) if controls else None,
            rounds=found_rounds,
            committed={number: listed[key].modified for number, key in round_keys.items()},
            closings=self._numbered(listed, keys.CLOSINGS, Closing),
            final=final,
            failures=self._all(listed, keys.FAILURES, Failure),
            exports={
                variant: record
                for variant in Variant
                if (record := self._record(listed, keys.exported(variant), Exported))
            },
            sites={alias: self._site(sites[alias], alias, rounds, final) for alias in sorted(sites)},
            aggregator=self._heartbeat(listed, keys.AGGREGATOR_PROGRESS),
            invalid=(*self._invalid.values(), *self._listing.crowded.values()),
            closed={
                number: listed[key].modified for number, key in _numbered_keys(listed, keys.CLOSINGS).items()
            },
            joined=self._joined(listed, found_rounds),
            holder=self._newest(listed, keys.HOLDERS, Holder),
            refusals=_refusals(self._controls(listed, controls.values())),
        )

    def _controls(self, listed: dict[str, Entry], among: Iterable[str]) -> Iterator[Control]:
        """Those of this version, in their order; one of an earlier version need not be readable any more."""
        for key in among:
            with suppress(InvalidRecord):
                if control := self._record(listed, key, Control):
                    yield control

    def _joined(self, listed: dict[str, Entry], rounds: dict[int, Round]) -> frozenset[str]:
        newest = rounds.get(max(rounds, default=0))
        under = newest and self._record(listed, keys.control(newest.control), Control)
        return frozenset(under.active if under else ())

    def _site(self, listed: dict[str, Entry], alias: str, rounds: int, final: Final | None) -> SiteFacts:
        # Each round has a folder for its attempts, numbered as a record is.
        folders = {f"{key.rpartition('/')[0]}.json" for key in listed if _is_numbered(key)}
        updates = [number for number in _numbered_keys(folders, keys.all_updates(alias)) if number <= rounds]
        facts = SiteFacts(
            newest_update=max(updates, default=None),
            scores=self._numbered(listed, keys.all_scores(alias), RoundScores, rounds),
            heartbeat=self._heartbeat(listed, keys.progress(alias)),
            outcome=self._record(listed, keys.outcome(alias), Outcome),
            external=self._record(listed, keys.external_scores(alias), ExternalScores),
            rejections=self._rejections(listed, alias),
            preflight=self._newest(listed, keys.preflights(alias), Preflight),
            deliveries=self._deliveries(listed, alias, rounds),
        )
        invalid = {entry.key: why for entry, why in self._invalid.items() if entry.key in listed}
        if alias in self._listing.crowded:
            invalid[f"{keys.SITES}{alias}/"] = self._listing.crowded[alias]
        if final and facts.outcome and (fault := fault_of_outcome(facts.outcome, final)):
            facts = dataclasses.replace(facts, outcome=None)
            invalid[keys.outcome(alias)] = fault
        return dataclasses.replace(facts, invalid=invalid)

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
            record = self._read(entry, kind)
        except InvalidRecord as error:
            # One site's fault must not blind the coordinator; anybody else's is a bug or a version mismatch.
            if not key.startswith(keys.SITES):
                raise
            self._invalid[entry] = str(error)
            return None
        except NotFound:
            if not key.startswith(keys.SITES):
                raise
            return None  # removed since it was listed
        self._cache[key] = record
        return record

    def _read(self, entry: Entry, kind: type[AnyRecord]) -> AnyRecord:
        """Raises InvalidRecord, also where a site has written more than is kept of one."""
        check_size(entry.key, entry.size_bytes)
        record = _told(read(self._store, entry.key, kind))
        assert isinstance(record, kind), "what is left out changes no type"
        if entry.key.startswith(keys.SITES) and not keys.has_rows(entry.key):
            alias = entry.key.split("/")[1]
            held = self.held_bytes(alias) + len(encode(record))
            if held > self._most_held:
                raise InvalidRecord(f"{entry.key}: {alias} has written more than {self._most_held} bytes")
            self._held[alias] = held
        return record

    def _newest(self, listed: dict[str, Entry], prefix: str, kind: type[AnyRecord]) -> AnyRecord | None:
        found = _numbered_keys(listed, prefix)
        return self._record(listed, found[max(found)], kind) if found else None

    def _all(self, listed: dict[str, Entry], prefix: str, kind: type[AnyRecord]) -> tuple[AnyRecord, ...]:
        ours = (key for key in listed if key.startswith(prefix) and _is_numbered(key))
        found = (self._record(listed, key, kind) for key in ours)
        return tuple(record for record in found if record is not None)

    def _rejections(self, listed: dict[str, Entry], alias: str) -> tuple[Rejection, ...]:
        ours = (key for key in listed if key.startswith(keys.all_rejections(alias)) and _is_numbered(key))
        return tuple(rejection for key in ours if (rejection := self._rejection(listed, key)) is not None)

    def _rejection(self, listed: dict[str, Entry], key: str) -> Rejection | None:
        try:
            return self._record(listed, key, Rejection)
        except InvalidRecord as error:
            held = self._cache[key] = as_rejection(key, error)
            return held

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
        entry = listed[key]
        try:
            check_size(key, entry.size_bytes)
            said = read(self._store, key, Progress)
            return Heartbeat(replace(said, message=plain(said.message)), entry.modified)
        except NotFound:
            return None  # removed since it was listed
        except InvalidRecord as error:
            if key.startswith(keys.SITES):
                self._invalid[entry] = str(error)  # until it is replaced, perhaps in a moment
            return None
