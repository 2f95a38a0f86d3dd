"""What the aggregator does now, for people who watch."""

import time

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import encode
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.process.words import plain
from segviz_exchange.stores.store import Store

INTERVAL_SECONDS = 10.0
MOST_CHARACTERS = 4096


class Heartbeat:
    """Written at every change, and often enough to tell that the process lives."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: Progress | None = None
        self._written = 0.0

    def beat(self, phase: Phase, round_: int | None, message: str) -> None:
        # There is no lease: a second aggregator is harmless.
        # It quotes why updates were rejected, of many sites perhaps.
        progress = Progress(lease=0, phase=phase, message=plain(message, MOST_CHARACTERS), round=round_)
        due = time.monotonic() - self._written >= INTERVAL_SECONDS
        if progress == self._last and not due:
            return
        self._store.put(keys.AGGREGATOR_PROGRESS, encode(progress))
        self._last, self._written = progress, time.monotonic()
