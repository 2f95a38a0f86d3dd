"""What a process tells the world while it works, and whether it still may."""

import logging
import time

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import encode, newest
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.contract.records import Lease
from segviz_exchange.process import logs
from segviz_exchange.process.words import plain
from segviz_exchange.stores.store import AlreadyExists, Store, StoreError

log = logging.getLogger(__name__)


class Superseded(Exception):
    """A newer incarnation of this site holds the lease; this one must stop."""


def take_lease(store: Store, site: str) -> int:
    """The next free number. Of two that reach for the same one, the second takes the one after."""
    last = newest(store, keys.leases(site))
    number = 1 if last is None else keys.number_of(last) + 1
    while True:
        try:
            store.create(keys.lease(site, number), encode(Lease(number)))
        except AlreadyExists:
            number += 1
        else:
            return number


class Heartbeat:
    """Replaces `progress.json` at most every `interval_seconds`, and then looks at the lease."""

    def __init__(self, store: Store, site: str, lease: int, interval_seconds: float = 2.0) -> None:
        self.store = store
        self.site = site
        self.lease = lease
        self.interval_seconds = interval_seconds
        self._sent = float("-inf")
        self._phase: Phase | None = None

    def is_due(self, phase: Phase) -> bool:
        return phase is not self._phase or time.monotonic() - self._sent >= self.interval_seconds

    def beat(self, phase: Phase, **fields: object) -> bool:
        """Send a heartbeat if one is due, or if the phase is new.

        Returns:
            Whether it was due.

        Raises:
            Superseded: another incarnation has taken over.
        """
        if isinstance(round_ := fields.get("round"), int):
            logs.enter_round(round_)
        if not self.is_due(phase):
            return False
        self._sent, self._phase = time.monotonic(), phase
        if isinstance(message := fields.get("message"), str):
            fields["message"] = plain(message)
        progress = Progress(lease=self.lease, phase=phase, **fields)  # type: ignore[arg-type]
        try:
            self.store.put(keys.progress(self.site), encode(progress))
            check_lease(self.store, self.site, self.lease)
        except StoreError as error:
            # Training goes on without a store; only commits wait for it.
            log.warning("heartbeat not sent: %s", error)
        return True

    def newest_round(self) -> int:
        """Number of the newest committed round; -1 where there is none, or no store to ask."""
        try:
            key = newest(self.store, keys.ROUNDS)
        except StoreError as error:
            log.warning("cannot look up the rounds: %s", error)
            return -1
        return -1 if key is None else keys.number_of(key)


def check_lease(store: Store, site: str, lease: int) -> None:
    """Raises Superseded if another incarnation of the site has taken a newer lease."""
    last = newest(store, keys.leases(site))
    if last is not None and (number := keys.number_of(last)) > lease:
        raise Superseded(f"lease {number} is newer than this process's {lease}")
