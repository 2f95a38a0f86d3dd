"""Records in a store: written once, read as what their key promises, found by their numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from segviz_exchange.contract import keys
from segviz_exchange.contract.claims import fault_of_claim
from segviz_exchange.contract.listing import Listing
from segviz_exchange.contract.records import Control, Record, Rejection, Round
from segviz_exchange.process.words import plain
from segviz_exchange.stores.signed import Forged
from segviz_exchange.stores.signing import split
from segviz_exchange.stores.store import (
    MAX_OBJECT_BYTES,
    AlreadyExists,
    Entry,
    NotFound,
    Store,
    StoreError,
    TooLarge,
)

AnyRecord = TypeVar("AnyRecord", bound=Record)

MAX_SITE_BYTES = 64 << 10
"""Of a record that a site writes, and of one that is written about it."""
MAX_ROWS_BYTES = 4 << 20
"""The same of an outcome and of external scores, which hold a row for each case."""

_encoder = msgspec.json.Encoder(order="deterministic")


class InvalidRecord(StoreError):
    """An object is not the record its key promises; whoever wrote it is at fault, not the store.

    The message may quote what somebody wrote, and goes into records, logs and status: it is cut here.
    """

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


def encode(record: Record) -> bytes:
    return _encoder.encode(record) + b"\n"


def decode(data: bytes, kind: type[AnyRecord], key: str) -> AnyRecord:
    try:
        return msgspec.json.decode(split(data)[0], type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRecord(f"{key}: not a {kind.__name__} record: {error}") from error


def most_bytes(key: str) -> int:
    """What every reader takes at most, so that none of them reads what another one refuses."""
    if not key.startswith((keys.SITES, keys.REJECTIONS)):
        return MAX_OBJECT_BYTES
    return MAX_ROWS_BYTES if keys.has_rows(key) else MAX_SITE_BYTES


def check_size(key: str, size_bytes: int) -> None:
    """Raises InvalidRecord."""
    if size_bytes > (most := most_bytes(key)):
        raise InvalidRecord(f"{key}: is {size_bytes} bytes long; at most {most} are read")


def read(store: Store, key: str, kind: type[AnyRecord]) -> AnyRecord:
    """Raises NotFound, or InvalidRecord for an object that is no such record."""
    try:
        data = store.get(key)
    except TooLarge as error:
        raise InvalidRecord(f"{key}: not a {kind.__name__} record: {error}") from error
    except Forged as error:
        raise InvalidRecord(str(error)) from error
    except StoreError as error:
        # Neither away nor forbidden, and it is listed: such as encrypted with a key that only its writer has.
        if type(error) is StoreError and key.startswith(keys.SITES):
            raise InvalidRecord(f"{key}: cannot be read: {error}") from error
        raise
    check_size(key, len(data))
    record = decode(data, kind, key)
    if fault := fault_of_claim(key, record):
        raise InvalidRecord(f"{key}: {fault}")
    return record


def as_rejection(key: str, why: InvalidRecord) -> Rejection:
    """What a rejection that cannot be read says: it was committed under its key, so it holds.

    Earlier versions quoted a site's text whole, and could not read again what they had written.
    """
    return Rejection(*keys.rejected(key), "Unreadable", f"the rejection cannot be read: {why}")


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
        self._listing = Listing()

    def look(self) -> None:
        """List the folders anew, in their order; until the next look, what is not listed is not there."""
        listed = (
            entry
            for folder in self._folders
            for entry in self._listing.of(self._store, folder, lambda: newest_control(self._store))
        )
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
        if entry := self._entries.get(key):
            check_size(key, entry.size_bytes)
        record = self._records[key] = read(self._store, key, kind)
        return record

    def rejection(self, key: str) -> Rejection:
        """Raises NotFound."""
        try:
            return self.read(key, Rejection)
        except InvalidRecord as error:
            return as_rejection(key, error)

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
