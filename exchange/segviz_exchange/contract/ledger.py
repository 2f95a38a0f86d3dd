"""Records in a store: written once, read as what their key promises, found by their numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from segviz_exchange.contract import keys
from segviz_exchange.contract.records import Control, Record, Round
from segviz_exchange.stores.store import AlreadyExists, Entry, NotFound, Store, StoreError, TooLarge

AnyRecord = TypeVar("AnyRecord", bound=Record)

_encoder = msgspec.json.Encoder(order="deterministic")


class InvalidRecord(StoreError):
    """An object is not the record its key promises; whoever wrote it is at fault, not the store."""


def encode(record: Record) -> bytes:
    return _encoder.encode(record) + b"\n"


def decode(data: bytes, kind: type[AnyRecord], key: str) -> AnyRecord:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRecord(f"{key}: not a {kind.__name__} record: {error}") from error


def read(store: Store, key: str, kind: type[AnyRecord]) -> AnyRecord:
    """Raises NotFound, or InvalidRecord for an object that is no such record."""
    try:
        return decode(store.get(key), kind, key)
    except TooLarge as error:
        raise InvalidRecord(f"{key}: not a {kind.__name__} record: {error}") from error


def find(store: Store, key: str, kind: type[AnyRecord]) -> AnyRecord | None:
    try:
        return read(store, key, kind)
    except NotFound:
        return None


def commit(store: Store, key: str, record: AnyRecord) -> AnyRecord:
    """Create a record, or return the one that is already there.

    The answer to a create can get lost after the store has acted, and a process may have an earlier self:
    both look like AlreadyExists. What the store holds is the truth, so the caller goes on with it.
    """
    try:
        store.create(key, encode(record))
    except AlreadyExists:
        return read(store, key, type(record))
    return record


def numbered(store: Store, prefix: str) -> dict[int, Entry]:
    """The numbered records directly under `prefix`, in their order; what else lies there is skipped."""
    return _numbered(prefix, store.list(prefix))


def _numbered(prefix: str, entries: Iterable[Entry]) -> dict[int, Entry]:
    below = (entry for entry in entries if entry.key.startswith(prefix))
    found = ((keys.number_below(prefix, entry.key), entry) for entry in below)
    known = {number: entry for number, entry in found if number is not None}
    return dict(sorted(known.items()))


def newest(store: Store, prefix: str) -> str | None:
    """The highest-numbered key directly under `prefix`."""
    entries = numbered(store, prefix)
    return entries[max(entries)].key if entries else None


class Ledger:
    """What one listing shows of some folders. Records never change, so each is read once.

    It holds nothing that the store could not give again.
    """

    def __init__(self, store: Store, folders: Sequence[str]) -> None:
        self._store = store
        self._folders = tuple(folders)
        self._entries: Mapping[str, Entry] = {}
        self._records: dict[str, Record] = {}

    def look(self) -> None:
        """List the folders anew, in their order; until the next look, what is not listed is not there."""
        listed = (entry for folder in self._folders for entry in self._store.list(folder))
        self._entries = {entry.key: entry for entry in listed}

    def holds(self, key: str) -> bool:
        return key in self._entries

    def below(self, prefix: str) -> tuple[Entry, ...]:
        return tuple(entry for key, entry in self._entries.items() if key.startswith(prefix))

    def numbered(self, prefix: str) -> dict[int, Entry]:
        """The numbered records directly under `prefix`, in their order."""
        return _numbered(prefix, self._entries.values())

    def newest(self, prefix: str, kind: type[AnyRecord]) -> AnyRecord | None:
        entries = self.numbered(prefix)
        return self.read(entries[max(entries)].key, kind) if entries else None

    def find(self, key: str, kind: type[AnyRecord]) -> AnyRecord | None:
        """The store is asked for what lies outside the folders until it is there."""
        if key.startswith(self._folders) and key not in self._entries:
            return None
        try:
            return self.read(key, kind)
        except NotFound:
            return None

    def read(self, key: str, kind: type[AnyRecord]) -> AnyRecord:
        """Raises NotFound, or InvalidRecord for an object that is no such record."""
        known = self._records.get(key)
        if isinstance(known, kind):
            return known
        record = self._records[key] = read(self._store, key, kind)
        return record

    def commit(self, key: str, record: AnyRecord) -> AnyRecord:
        """As the function of that name does."""
        held = self._records[key] = commit(self._store, key, record)
        return held


def newest_control(store: Store) -> Control | None:
    key = newest(store, keys.CONTROLS)
    return None if key is None else read(store, key, Control)


def newest_round(store: Store) -> Round | None:
    key = newest(store, keys.ROUNDS)
    return None if key is None else read(store, key, Round)
