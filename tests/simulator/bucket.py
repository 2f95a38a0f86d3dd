"""What is in the store, whatever its clients are told: one history, in which a create happens once."""

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from segviz_exchange.stores.store import AlreadyExists, Entry, NotFound
from simulator.world import World


@dataclass(frozen=True)
class Stored:
    data: bytes
    entry: Entry
    born: float
    """When its key was first taken, in the world's seconds."""


Watcher = Callable[[str, str, bytes], None]
"""Told who writes what, before it is there."""


class Bucket:
    def __init__(self, world: World) -> None:
        self.world = world
        self.watchers: list[Watcher] = []
        self._objects: dict[str, Stored] = {}
        self._keys: list[str] = []
        self._gone: dict[str, tuple[float, Entry]] = {}

    def create(self, who: str, key: str, data: bytes) -> None:
        if key in self._objects:
            raise AlreadyExists(key)
        self.put(who, key, data)

    def put(self, who: str, key: str, data: bytes) -> None:
        for watcher in self.watchers:
            watcher(who, key, data)
        before = self._objects.get(key)
        if before is None:
            insort(self._keys, key)
        born = self.world.now if before is None else before.born
        self._objects[key] = Stored(data, Entry(key, len(data), self.world.moment), born)

    def get(self, key: str) -> bytes:
        if key not in self._objects:
            raise NotFound(key)
        return self._objects[key].data

    def find(self, key: str) -> bytes | None:
        return self._objects[key].data if key in self._objects else None

    def delete(self, key: str) -> None:
        if stored := self._objects.pop(key, None):
            self._keys.remove(key)
            self._gone[key] = (self.world.now, stored.entry)

    def list(self, prefix: str, late_seconds: float = 0.0) -> list[Entry]:
        """As it was, as far as keys go, so long ago."""
        since = self.world.now - late_seconds
        found = []
        for place in range(bisect_left(self._keys, prefix), len(self._keys)):
            key = self._keys[place]
            if not key.startswith(prefix):
                break
            stored = self._objects[key]
            if stored.born <= since:
                found.append(stored.entry)
        if late_seconds:
            found += [
                entry
                for key, (when, entry) in self._gone.items()
                if when > since and key.startswith(prefix) and key not in self._objects
            ]
            found.sort(key=lambda entry: entry.key)
        return found

    def keys(self, prefix: str = "") -> "list[str]":
        return [entry.key for entry in self.list(prefix)]

    def age(self, key: str) -> timedelta:
        return self.world.moment - self._objects[key].entry.modified
