"""Where a federation stands, as the store says: read anew at every step, so no memory can be wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from segviz_exchange import keys
from segviz_exchange.closing import deadline_of
from segviz_exchange.records import Control, Final, Round, find, read
from segviz_exchange.store import Entry, Store


@dataclass(frozen=True)
class Situation:
    now: datetime
    """By the store's clock, taken before anything was listed."""
    control: Control
    """The newest one."""
    controls: frozenset[int]
    """Numbers of all there are."""
    previous: Round | None
    """The newest committed round."""
    opened: datetime | None
    """When that was committed."""
    suspended: timedelta
    """How long the federation was suspended since."""
    joined: frozenset[str]
    """The sites that were active when that round closed: the others join in the next round."""
    final: Final | None

    @property
    def round(self) -> int:
        """The open round."""
        return 0 if self.previous is None else self.previous.round + 1

    @property
    def deadline(self) -> datetime | None:
        return deadline_of(self.control, self.opened, self.suspended)


class Observer:
    """Reads situations. Controls never change, so each is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._controls: dict[str, Control] = {}

    def observe(self) -> Situation | None:
        """None before the first control."""
        now = self._store.now()
        controls = numbered(self._store, keys.CONTROLS)
        if not controls:
            return None
        newest = self._control(controls[-1].key)
        rounds = numbered(self._store, keys.ROUNDS)
        previous = read(self._store, rounds[-1].key, Round) if rounds else None
        opened = rounds[-1].modified if rounds else None
        closed_under = self.control(previous.control) if previous else newest
        return Situation(
            now=now,
            control=newest,
            controls=frozenset(keys.number_of(entry.key) for entry in controls),
            previous=previous,
            opened=opened,
            suspended=self._suspended(controls, opened, now),
            joined=frozenset(closed_under.active),
            final=find(self._store, keys.FINAL, Final),
        )

    def control(self, number: int) -> Control:
        return self._control(keys.control(number))

    def _control(self, key: str) -> Control:
        if key not in self._controls:
            self._controls[key] = read(self._store, key, Control)
        return self._controls[key]

    def _suspended(self, controls: Sequence[Entry], since: datetime | None, now: datetime) -> timedelta:
        if since is None:
            return timedelta(0)
        switches = [(entry.modified, self._control(entry.key).suspend) for entry in controls]
        return suspended_time(switches, since, now)


def numbered(store: Store, prefix: str) -> list[Entry]:
    """The records directly under `prefix`, in the order of their numbers."""
    entries = [entry for entry in store.list(prefix) if "/" not in entry.key[len(prefix) :]]
    return sorted(entries, key=lambda entry: keys.number_of(entry.key))


def suspended_time(switches: Sequence[tuple[datetime, bool]], since: datetime, until: datetime) -> timedelta:
    """How much of `since`..`until` lies after a switch to suspended and before the next one to running."""
    ends = [moment for moment, _ in switches[1:]] + [until]
    spans = (
        min(end, until) - max(begin, since)
        for (begin, suspended), end in zip(switches, ends, strict=True)
        if suspended
    )
    return sum((max(span, timedelta(0)) for span in spans), start=timedelta(0))
