"""A store that may be asked for so long and no longer: a slow one must not hold who serves many."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from segviz_exchange.stores.store import Entry, Store, Unavailable


class TimedStore:
    """Begins no request once its time is up; one that is under way ends by the store's own timeouts."""

    def __init__(
        self,
        store: Store,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        until: float | None = None,
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._clock = clock
        self._until = clock() + seconds if until is None else until

    def __str__(self) -> str:
        return str(self._store)

    def create(self, key: str, data: bytes) -> None:
        self._in_time().create(key, data)

    def put(self, key: str, data: bytes) -> None:
        self._in_time().put(key, data)

    def upload(self, key: str, path: Path) -> None:
        self._in_time().upload(key, path)

    def get(self, key: str) -> bytes:
        return self._in_time().get(key)

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        return self._in_time().open(key)

    def list(self, prefix: str) -> list[Entry]:
        return self._in_time().list(prefix)

    def delete(self, key: str) -> None:
        self._in_time().delete(key)

    def now(self) -> datetime:
        return self._in_time().now()

    def scoped(self, prefix: str) -> "TimedStore":
        return TimedStore(self._store.scoped(prefix), self._seconds, self._clock, self._until)

    def _in_time(self) -> Store:
        if self._clock() > self._until:
            raise Unavailable(f"{self}: was too slow, the turn's {self._seconds:g} s are over")
        return self._store
