"""One process's way to the bucket, on which answers get lost: a Store."""

import builtins
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

from segviz_exchange.stores.s3_errors import Conflict, Outdated
from segviz_exchange.stores.store import AlreadyExists, Denied, Entry, Unavailable, check_key
from segviz_operator.access.rights import Access
from simulator.bucket import Bucket
from simulator.world import Actor

_T = TypeVar("_T")

READS = ("get", "open", "list", "now")


@dataclass(frozen=True)
class Weather:
    """How a store misbehaves: rates a call, until `clears`, and spans in which one thing holds for all."""

    rates: dict[str, float] = field(default_factory=dict)
    """Of 500, 503, 409, lost (the answer, not the request), late (a request that acts after its time),
    repeated and slow."""
    listing_late_seconds: float = 0.0
    spans: tuple[tuple[str, float, float], ...] = ()
    """away, full or slow; from and until."""
    clears: float = 0.0
    latency_seconds: float = 0.05

    def holds(self, kind: str, now: float) -> bool:
        return any(kind == each and begin <= now < end for each, begin, end in self.spans)


@dataclass
class Connection:
    bucket: Bucket
    actor: Actor
    weather: Weather
    access: Access
    """What its credentials allow."""
    expires: Callable[[], datetime | None]
    """When they end."""

    def __str__(self) -> str:
        return "bucket"

    def create(self, key: str, data: bytes) -> None:
        self._ask("create", key, lambda: self.bucket.create(self.actor.name, key, data))

    def put(self, key: str, data: bytes) -> None:
        self._ask("put", key, lambda: self.bucket.put(self.actor.name, key, data))

    def upload(self, key: str, path: Path) -> None:
        data = path.read_bytes()
        self._ask("upload", key, lambda: self.bucket.put(self.actor.name, key, data))

    def get(self, key: str) -> bytes:
        return self._ask("get", key, lambda: self.bucket.get(key))

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        yield io.BytesIO(self._ask("open", key, lambda: self.bucket.get(key)))

    def list(self, prefix: str) -> list[Entry]:
        late = 0.0
        if self.weather.listing_late_seconds and self._is_bad:
            late = self.actor.world.chance.uniform(0.0, self.weather.listing_late_seconds)
        return self._ask("list", prefix, lambda: self._listed(prefix, late))

    def delete(self, key: str) -> None:
        self._ask("delete", key, lambda: self.bucket.delete(key))

    def now(self) -> datetime:
        # As a Date header has it.
        return self._ask("now", "clock", lambda: self.actor.world.moment.replace(microsecond=0))

    def scoped(self, prefix: str) -> "Connection":
        raise AssertionError("a federation has its bucket to itself here")

    def _listed(self, prefix: str, late: float) -> "builtins.list[Entry]":
        now = self.bucket.list(prefix)
        if not late or (then := self.bucket.list(prefix, late)) == now:
            return now
        self.actor.world.faults["lists late"] += 1
        return then

    @property
    def _is_bad(self) -> bool:
        return self.actor.world.now < self.weather.clears

    def _ask(self, operation: str, key: str, act: Callable[[], _T]) -> _T:
        world, weather = self.actor.world, self.weather
        world.calls += 1
        slow = weather.holds("slow", world.now)
        latency = weather.latency_seconds * (200.0 if slow else 1.0)
        if slow:
            world.faults["slow"] += 1
        self.actor.pause(world.chance.uniform(0.0, latency))
        self._check_rights(operation, key)
        self._check_span(operation, key)
        answer = self._answer(operation, key, act)
        self.actor.pause(world.chance.uniform(0.0, latency))
        return answer

    def _answer(self, operation: str, key: str, act: Callable[[], _T]) -> _T:
        world = self.actor.world
        kind = self._fault(operation)
        if kind:
            world.faults[kind] += 1
            world.tell(f"{operation} {key}: {kind}")
        if kind in ("500", "503"):
            raise Unavailable(kind)
        if kind == "409":
            raise Conflict(kind)
        if kind == "late":
            world.at(world.chance.uniform(0.0, 900.0), lambda: _anyhow(act))
            raise Unavailable("no answer")
        answer = act()
        if kind != "lost" and operation not in READS:
            world.tell(f"{operation} {key}")
        if kind == "lost":
            raise Unavailable("the answer is lost")
        if kind == "repeated":
            world.at(world.chance.uniform(0.0, 60.0), lambda: _anyhow(act))
        return answer

    def _fault(self, operation: str) -> str | None:
        if not self._is_bad:
            return None
        draw = self.actor.world.chance.random()
        for kind, rate in self.weather.rates.items():
            if draw < rate:
                fits = operation == "create" if kind == "409" else True
                # An answer that comes late is one that is lost; what reads changes nothing.
                changes = operation not in READS or kind in ("500", "503")
                # A delete that acts later could meet an object that was written again: the API has no guard.
                return kind if fits and changes and not (operation == "delete" and kind == "late") else None
            draw -= rate
        return None

    def _check_rights(self, operation: str, key: str) -> None:
        if operation == "now":
            return
        if operation != "list":
            check_key(key)
        expires = self.expires()
        if expires is not None and expires <= self.actor.world.moment:
            self.actor.world.faults["expired credentials"] += 1
            raise Outdated("ExpiredToken")
        allowed = {"list": self.access.reads, "delete": self.access.deletes}.get(
            operation, self.access.reads if operation in READS else self.access.writes
        )
        folders = (*self.access.hidden, *(self.access.guarded if operation in ("create", "put") else ()))
        barred = operation != "list" and any(_below(folder, key) for folder in folders)
        if barred or not any(_below(folder, key) for folder in allowed):
            self.actor.world.break_rule(f"{self.actor.name} may not {operation} {key}")
            raise Denied(f"{operation} {key}")

    def _check_span(self, operation: str, key: str) -> None:
        world = self.actor.world
        if self.weather.holds("away", world.now):
            world.faults["away"] += 1
            raise Unavailable("503 everywhere")
        if operation in ("create", "put", "upload") and self.weather.holds("full", world.now):
            world.faults["full"] += 1
            raise Unavailable("507 no room")


def _below(folder: str, key: str) -> bool:
    """A star stands for one part."""
    parts, wanted = key.split("/"), folder.rstrip("/").split("/")
    if folder == "":
        return True
    return len(parts) >= len(wanted) and all(
        want in ("*", part) for want, part in zip(wanted, parts, strict=False)
    )


def _anyhow(act: Callable[[], object]) -> None:
    try:
        act()
    except AlreadyExists:
        return
