"""A store that counts and times what is asked of it, by operation: the store's health as seen from here."""

import io
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from prometheus_client import CollectorRegistry

from segviz_exchange.process.measures import counter, histogram
from segviz_exchange.stores.store import CHUNK_BYTES, AlreadyExists, Entry, NotFound, Store, StoreError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

OPERATIONS = ("create", "put", "upload", "get", "open", "list", "delete", "now")
FAILURES = ("Unavailable", "Denied")
"""Counted from zero, so that the first one is an increase."""

REQUEST_DURATION = histogram(
    "segviz_store_request_duration_seconds",
    "How long the store took for a request, failed ones included; an open is the time to the first byte.",
    ("operation",),
    (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0),
)
REQUEST_ERRORS = counter(
    "segviz_store_request_errors_total",
    "Requests that failed, each attempt of a repeated one included. An absent or existing object is none.",
    ("operation", "error"),
)
SENT = counter("segviz_store_sent_bytes_total", "Bytes of objects that this process wrote to the store.")
RECEIVED = counter(
    "segviz_store_received_bytes_total", "Bytes of objects that this process read from the store."
)
MEASURES = (REQUEST_DURATION, REQUEST_ERRORS, SENT, RECEIVED)


class StoreMetrics:
    """One per process, whatever the number of stores it opens."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.duration = REQUEST_DURATION.histogram(registry)
        self.errors = REQUEST_ERRORS.counter(registry)
        self.sent = SENT.counter(registry)
        self.received = RECEIVED.counter(registry)
        for operation in OPERATIONS:
            self.duration.labels(operation)
            for error in FAILURES:
                self.errors.labels(operation, error)

    @contextmanager
    def request(self, operation: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except (NotFound, AlreadyExists):
            raise
        except StoreError as error:
            self.errors.labels(operation, type(error).__name__).inc()
            raise
        finally:
            self.duration.labels(operation).observe(time.perf_counter() - began)


class MeasuredStore:
    """Goes under a PatientStore, so that every attempt counts."""

    def __init__(self, store: Store, metrics: StoreMetrics) -> None:
        self._store = store
        self._metrics = metrics

    def __str__(self) -> str:
        return str(self._store)

    def create(self, key: str, data: bytes) -> None:
        with self._metrics.request("create"):
            self._store.create(key, data)
        self._metrics.sent.inc(len(data))

    def put(self, key: str, data: bytes) -> None:
        with self._metrics.request("put"):
            self._store.put(key, data)
        self._metrics.sent.inc(len(data))

    def upload(self, key: str, path: Path) -> None:
        with self._metrics.request("upload"):
            self._store.upload(key, path)
        self._metrics.sent.inc(path.stat().st_size)

    def get(self, key: str) -> bytes:
        with self._metrics.request("get"):
            data = self._store.get(key)
        self._metrics.received.inc(len(data))
        return data

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        with ExitStack() as connection:
            with self._metrics.request("open"):
                stream = connection.enter_context(self._store.open(key))
            yield io.BufferedReader(_Counted(stream, self._metrics), CHUNK_BYTES)

    def list(self, prefix: str) -> list[Entry]:
        with self._metrics.request("list"):
            return self._store.list(prefix)

    def delete(self, key: str) -> None:
        with self._metrics.request("delete"):
            self._store.delete(key)

    def now(self) -> datetime:
        with self._metrics.request("now"):
            return self._store.now()

    def scoped(self, prefix: str) -> "MeasuredStore":
        return MeasuredStore(self._store.scoped(prefix), self._metrics)


class _Counted(io.RawIOBase):
    """A stream that tells how much was read, and when the store let go of it."""

    def __init__(self, stream: BinaryIO, metrics: StoreMetrics) -> None:
        self._stream = stream
        self._metrics = metrics

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        try:
            data = self._stream.read(len(view))
        except StoreError as error:
            self._metrics.errors.labels("open", type(error).__name__).inc()
            raise
        view[: len(data)] = data
        self._metrics.received.inc(len(data))
        return len(data)
