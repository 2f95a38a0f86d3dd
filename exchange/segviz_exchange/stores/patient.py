"""A store that waits for a store that is away: what a hospital's network does, no caller need know."""

import io
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ParamSpec, TypeVar

import tenacity

from segviz_exchange.stores.store import CHUNK_BYTES, Entry, Store, StoreError, Unavailable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30

_P = ParamSpec("_P")
_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class PatientStore:
    """Repeats what met `Unavailable` for a while, at growing and random intervals.

    A create whose answer got lost may have acted. Its repeat then raises AlreadyExists, truthfully:
    `ledger.commit` reads back and finds the caller's own record.
    """

    def __init__(
        self,
        store: Store,
        patience_seconds: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._patience_seconds = patience_seconds
        self._sleep = sleep
        self._clock = clock

    def __str__(self) -> str:
        return str(self._store)

    def create(self, key: str, data: bytes) -> None:
        self._patiently(self._store.create, key, data)

    def put(self, key: str, data: bytes) -> None:
        self._patiently(self._store.put, key, data)

    def upload(self, key: str, path: Path) -> None:
        self._patiently(self._store.upload, key, path)

    def get(self, key: str) -> bytes:
        return self._patiently(self._store.get, key)

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """A stream that survives its connections, for a blob, which is the same whenever it is read."""
        with _Resumed(self, key) as resumed:
            resumed.reach()  # raise NotFound here, not at the first read
            yield io.BufferedReader(resumed, CHUNK_BYTES)

    def list(self, prefix: str) -> list[Entry]:
        return self._patiently(self._store.list, prefix)

    def delete(self, key: str) -> None:
        self._patiently(self._store.delete, key)

    def now(self) -> datetime:
        return self._patiently(self._store.now)

    def scoped(self, prefix: str) -> "PatientStore":
        return PatientStore(
            self._store.scoped(prefix), self._patience_seconds, sleep=self._sleep, clock=self._clock
        )

    def _patiently(self, act: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        began = self._clock()

        def is_away(state: tenacity.RetryCallState) -> bool:
            failure = _failure(state)
            away = isinstance(failure, Unavailable)
            if state.attempt_number > 1 and not away and isinstance(failure, StoreError | None):
                _log.warning("%s: answers again after %.0f s", self, self._clock() - began)
            return away

        def say_so_once(state: tenacity.RetryCallState) -> None:
            if state.attempt_number == 1:
                patience = self._patience_seconds
                _log.warning("the store does not answer; retrying for %g s: %s", patience, _failure(state))

        attempts = tenacity.Retrying(
            retry=is_away,
            wait=tenacity.wait_random_exponential(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS),
            stop=lambda _: self._clock() - began >= self._patience_seconds,
            sleep=self._sleep,
            before_sleep=say_so_once,
            reraise=True,
        )
        return attempts(act, *args, **kwargs)


class _Resumed(io.RawIOBase):
    """Reads an object from where a lost connection left it."""

    def __init__(self, store: PatientStore, key: str) -> None:
        self._store = store
        self._key = key
        self._position = 0
        self._stream: BinaryIO | None = None
        self._connection = ExitStack()

    def readable(self) -> bool:
        return True

    def reach(self) -> None:
        """Raises NotFound."""
        self._store._patiently(self._connected)

    def readinto(self, buffer: "WriteableBuffer") -> int:
        return self._store._patiently(self._read, memoryview(buffer))

    def close(self) -> None:
        self._connection.close()
        super().close()

    def _read(self, view: memoryview) -> int:
        try:
            data = self._connected().read(len(view))
        except Unavailable:
            self._stream = None
            self._connection.close()
            raise
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _connected(self) -> BinaryIO:
        if self._stream is None:
            stream = self._connection.enter_context(self._store._store.open(self._key))
            _skip(stream, self._position)
            self._stream = stream
        return self._stream


def _skip(stream: BinaryIO, count: int) -> None:
    while count and (skipped := stream.read(min(count, CHUNK_BYTES))):
        count -= len(skipped)


def _failure(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
