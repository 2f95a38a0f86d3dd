"""A store whose records say who wrote them: signs what this party writes, and verifies what it reads.

Blobs are not signed: a signed record names their digest.
"""

import re
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.keyring import Keys, Writers
from segviz_exchange.stores.signing import Unsigned, digest_of, sign, split, verify
from segviz_exchange.stores.store import Entry, NotFound, Store, StoreError

_NUMBERED = re.compile(r"(?P<folder>(.*/)?)(?P<number>[0-9]{4,18})\.json")

_ADVICE = (
    "The bucket was set back, or somebody else than the federation's own processes has written there. Find "
    "out who can, and put the record back, or start a new federation."
)


class Forged(StoreError):
    """A record is not what the party that may write it has signed."""


class Tampered(Refusal):
    """The same of a record that others act on, or a series of them that has lost one or forked."""


class SignedStore:
    """Goes directly over the store it is opened from."""

    def __init__(self, store: Store, keyring: Keys, path: str = "") -> None:
        self.inner = store
        self._keyring = keyring
        self._path = path
        """Of its root, from that of the bucket."""
        self._seen = keyring.seen

    @property
    def public(self) -> str | None:
        """The key of this party."""
        return self._keyring.public

    @property
    def is_certified(self) -> bool:
        """Whether controls say whose key counts; on one machine, a file of each party does."""
        return self._keyring.certificates is not None

    def __str__(self) -> str:
        return str(self.inner)

    def create(self, key: str, data: bytes) -> None:
        signed = self._signed(key, data)
        self.inner.create(key, signed)
        writers = self._writers(key)
        if signed is not data and writers is not None and _is_of_series(key, writers):
            self._seen.add(self._place(key), digest_of(signed))
            self._keyring.learn(self._place(key), split(signed)[0])

    def put(self, key: str, data: bytes) -> None:
        self.inner.put(key, self._signed(key, data))

    def upload(self, key: str, path: Path) -> None:
        self.inner.upload(key, path)

    def get(self, key: str) -> bytes:
        """Raises Forged or Tampered: it is not signed by whoever may write it."""
        data = self.inner.get(key)
        if not _is_record(key):
            return data
        writers = self._writers(key)
        if writers is not None and not writers.keys:
            return data
        try:
            self._check(key, data, writers)
        except Unsigned as error:
            if writers is not None and writers.decides:
                raise Tampered(f"{self}: {key}: {error}. {_ADVICE}") from error
            raise Forged(f"{key}: {error}") from error
        body = split(data)[0]
        self._keyring.learn(self._place(key), body)
        return body

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        return self.inner.open(key)

    def list(self, prefix: str) -> list[Entry]:
        """Raises Tampered: a record that was there before is gone."""
        entries = self.inner.list(prefix)
        there = {entry.key for entry in entries}
        for place in self._seen.below(self._path + prefix):
            if (key := place.removeprefix(self._path)) not in there:
                raise Tampered(f"{self}: {key} was there before, and is gone. {_ADVICE}")
        return entries

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def now(self) -> datetime:
        return self.inner.now()

    def scoped(self, prefix: str) -> "SignedStore":
        return SignedStore(self.inner.scoped(prefix), self._keyring, self._path + prefix)

    def _check(self, key: str, data: bytes, writers: Writers | None) -> None:
        """Raises Unsigned."""
        if writers is None:
            raise Unsigned("nobody may write there")
        place = self._place(key)
        signature = verify(place, data, writers.keys)
        if not _is_of_series(key, writers):
            return
        if signature.previous != self._digest_before(key, writers):
            raise Unsigned("it does not follow the record before it")
        digest = digest_of(data)
        if self._seen.digest(place) not in (None, digest):
            raise Unsigned("it is another record than the one that was there before")
        self._seen.add(place, digest)

    def _signed(self, key: str, data: bytes) -> bytes:
        writers = self._writers(key) if _is_record(key) else None
        if writers is None or self._keyring.public not in writers.keys:
            return data
        try:
            previous = self._digest_before(key, writers) if _is_of_series(key, writers) else None
        except Unsigned as error:
            raise Tampered(f"{self}: {key} cannot be written: {error}. {_ADVICE}") from error
        body = data if data.endswith(b"\n") else data + b"\n"
        return sign(self._keyring.own, self._place(key), body, previous)

    def _digest_before(self, key: str, writers: Writers) -> str | None:
        """Of the record before this one, once it and all before it are verified; none of the first.

        Raises:
            Unsigned: it is gone.
        """
        unseen = []
        before = _before(key, writers)
        while before is not None and self._seen.digest(self._place(before)) is None:
            unseen.append(before)
            before = _before(before, writers)
        for each in reversed(unseen):
            try:
                self.get(each)
            except NotFound as error:
                raise Unsigned(f"{each}, which came before it, is gone") from error
        last = _before(key, writers)
        return None if last is None else self._seen.digest(self._place(last))

    def _writers(self, key: str) -> Writers | None:
        writers = self._told(key)
        if writers is None and (folder := self._keyring.certificates) is not None:
            # Perhaps a newer one names them than this party has read.
            self._read_newest(folder.removeprefix(self._path))
            writers = self._told(key)
        return writers

    def _told(self, key: str) -> Writers | None:
        trusted = self._keyring.trusted
        return trusted.of(self._place(key).removeprefix(trusted.federation))

    def _read_newest(self, folder: str) -> None:
        found = [_NUMBERED.fullmatch(entry.key) for entry in self.inner.list(folder)]
        numbered = [match for match in found if match is not None and match["folder"] == folder]
        if numbered:
            self.get(max(numbered, key=lambda match: int(match["number"]))[0])

    def _place(self, key: str) -> str:
        return self._path + key


def _is_record(key: str) -> bool:
    return key.endswith(".json")


def _is_of_series(key: str, writers: Writers) -> bool:
    return writers.first is not None and _NUMBERED.fullmatch(key) is not None


def _before(key: str, writers: Writers) -> str | None:
    """The key before a numbered one."""
    match = _NUMBERED.fullmatch(key)
    assert match is not None, "it is of a series"
    number = int(match["number"]) - 1
    return f"{match['folder']}{number:04d}.json" if number >= (writers.first or 0) else None
