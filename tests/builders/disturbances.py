"""Stores that fail as real ones do: killed writers, lost answers, a clock that has moved on."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from segviz_exchange.stores.store import AlreadyExists, Entry, Store


class Around:
    """A store around another, to be disturbed."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    def create(self, key: str, data: bytes) -> None:
        self.inner.create(key, data)

    def put(self, key: str, data: bytes) -> None:
        self.inner.put(key, data)

    def upload(self, key: str, path: Path) -> None:
        self.inner.upload(key, path)

    def get(self, key: str) -> bytes:
        return self.inner.get(key)

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        return self.inner.open(key)

    def list(self, prefix: str) -> list[Entry]:
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def now(self) -> datetime:
        return self.inner.now()

    def scoped(self, prefix: str) -> Store:
        return self.inner.scoped(prefix)


class Killed(BaseException):
    """The process is gone."""


class Deadly(Around):
    """Kills the process before or after its nth write."""

    def __init__(self, inner: Store, nth: int, *, after: bool) -> None:
        super().__init__(inner)
        self.left = nth
        self.after = after
        self.writes: list[str] = []

    def create(self, key: str, data: bytes) -> None:
        self._die_around(key, lambda: self.inner.create(key, data))

    def put(self, key: str, data: bytes) -> None:
        self._die_around(key, lambda: self.inner.put(key, data))

    def upload(self, key: str, path: Path) -> None:
        self._die_around(key, lambda: self.inner.upload(key, path))

    def _die_around(self, key: str, write: Callable[[], None]) -> None:
        self.writes.append(key)
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Killed(key)
        write()
        if self.left == 0:
            raise Killed(key)


class Forgetful(Around):
    """Loses the answer to every create: the client tries again and is told that the object exists."""

    def create(self, key: str, data: bytes) -> None:
        self.inner.create(key, data)
        raise AlreadyExists(key)


class Shifted(Around):
    """The store's clock, some time later."""

    later = timedelta(0)

    def now(self) -> datetime:
        return self.inner.now() + self.later


class Recorded(Around):
    """Keeps the calls that look: they are what a store on the network charges for."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.listed: list[str] = []
        """Prefixes."""
        self.read: list[str] = []
        """Keys, of blobs too."""
        self.asked_time = 0

    def get(self, key: str) -> bytes:
        self.read.append(key)
        return super().get(key)

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        self.read.append(key)
        return super().open(key)

    def list(self, prefix: str) -> list[Entry]:
        self.listed.append(prefix)
        return super().list(prefix)

    def now(self) -> datetime:
        self.asked_time += 1
        return super().now()
