"""What a hostile site may write: anything below its own name, and nothing else."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from segviz_exchange.contract import keys
from segviz_exchange.stores.store import StoreError
from simulator.connection import Connection
from simulator.world import Actor

ROUNDS = 3
PLACES = (
    "lease",
    "update",
    "blob",
    "scores",
    "outcome",
    "external",
    "progress",
    "preflight",
    "release",
    "elsewhere",
)
CONTENTS = (
    "noise",
    "nothing",
    "huge",
    "deep",
    "twice",
    "text",
    "replayed",
    "neighbour's",
    "one value",
    "cut",
)
VALUES = (None, -1, 0, 10**400, 1e308, "x" * 600, "\x1b[2J\u202e", [], {}, True, "basel", "../../global")


@dataclass(frozen=True)
class Lie:
    after_seconds: float
    """Since the one before."""
    place: str
    content: str
    number: int
    """A round, a lease, or which of several."""
    attempt: int
    value: int
    """Which of VALUES, and the seed of what is random."""


def draw_lies(chance: random.Random, most: int = 12) -> tuple[Lie, ...]:
    return tuple(
        Lie(
            chance.uniform(0.0, 120.0),
            chance.choice(PLACES),
            chance.choice(CONTENTS),
            chance.choice((0, 1, 2, 3, 4, 9999, 999_999_999_999_999_999)),
            chance.randint(0, 4),
            chance.randrange(len(VALUES)),
        )
        for _ in range(chance.randint(1, most))
    )


@dataclass
class Liar:
    """Writes its lies one after the other, with no regard for conditions."""

    alias: str
    lies: Sequence[Lie]

    def run(self, actor: Actor, store: Connection) -> int:
        for lie in self.lies:
            actor.pause(lie.after_seconds)
            try:
                store.put(self._key(lie, store), self._data(lie, store))
                actor.world.faults[f"a lie: {lie.place}"] += 1
            except StoreError:
                continue
        return 0

    def _own(self, store: Connection) -> list[str]:
        return [entry.key for entry in store.list(f"{keys.SITES}{self.alias}/")]

    def _key(self, lie: Lie, store: Connection) -> str:
        alias, number = self.alias, lie.number
        own = self._own(store)
        blobs = [key for key in own if "/blobs/" in key] or [keys.site_blob(alias, "0" * 64)]
        return {
            "lease": keys.lease(alias, number),
            "update": keys.update(alias, number, lie.attempt),
            "blob": blobs[lie.value % len(blobs)],
            "scores": keys.scores(alias, number),
            "outcome": keys.outcome(alias),
            "external": keys.external_scores(alias),
            "progress": keys.progress(alias),
            "preflight": keys.preflight(alias, number),
            "release": keys.release_blob(alias, f"{lie.value:064x}"),
            "elsewhere": f"{keys.SITES}{alias}/updates/{number:04d}/{lie.attempt}.json/{'x/' * lie.value}y",
        }[lie.place]

    def _data(self, lie: Lie, store: Connection) -> bytes:
        own = [key for key in self._own(store) if key.endswith(".json")]
        before = store.get(own[lie.value % len(own)]) if own else b"{}"
        match lie.content:
            case "noise":
                return random.Random(lie.value).randbytes(200)
            case "nothing":
                return b""
            case "huge":
                return json.dumps({"x" * (1 << 17): 1}).encode()
            case "deep":
                return b"[" * 20_000
            case "twice":
                return b'{"number": 1, "number": 2}'
            case "text":
                return json.dumps(VALUES[lie.value]).encode()
            case "replayed":
                return before
            case "neighbour's":
                return before.replace(self.alias.encode(), b"basel")
            case "cut":
                return before[: len(before) // 2]
        return self._with_one_value(before, lie)

    def _with_one_value(self, before: bytes, lie: Lie) -> bytes:
        try:
            record = json.loads(before)
        except (ValueError, RecursionError):
            return before
        if isinstance(record, dict) and record:
            record[sorted(record)[lie.number % len(record)]] = VALUES[lie.value]
        return json.dumps(record).encode()
