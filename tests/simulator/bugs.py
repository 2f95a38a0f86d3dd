"""Bugs that were never there, to see that they would be found."""

from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from segviz_exchange.stores.store import Entry, Store


class BlobLast:
    """As if the code committed its record first: each blob waits until a record has been created."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[str, Path]] = []

    def __str__(self) -> str:
        return str(self._store)

    def upload(self, key: str, path: Path) -> None:
        kept = path.with_name(f"{path.name}.kept")
        kept.write_bytes(path.read_bytes())
        self._waiting.append((key, kept))

    def create(self, key: str, data: bytes) -> None:
        self._store.create(key, data)
        while self._waiting:
            self._store.upload(*self._waiting.pop())

    def put(self, key: str, data: bytes) -> None:
        self._store.put(key, data)

    def get(self, key: str) -> bytes:
        return self._store.get(key)

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        return self._store.open(key)

    def list(self, prefix: str) -> list[Entry]:
        return self._store.list(prefix)

    def delete(self, key: str) -> None:
        self._store.delete(key)

    def now(self) -> datetime:
        return self._store.now()
