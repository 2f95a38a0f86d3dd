"""Where a federation stands, as the store says: listed anew at every step, so no memory can be wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from segviz_exchange.contract import keys
from segviz_exchange.contract.closing import deadline_of
from segviz_exchange.contract.ledger import Ledger
from segviz_exchange.contract.records import Control, Final, Round
from segviz_exchange.stores.store import Store


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
    opened: datetime
    """When that was committed; before round 0, when the first control was."""
    suspended: timedelta
    """How long the federation was suspended since."""
    joined: frozenset[str]
    """The sites that were active when that round closed: the others join in the next round. Before round 0,
    those that are active now."""
    final: Final | None

    @property
    def round(self) -> int:
        """The open round."""
        return 0 if self.previous is None else self.previous.round + 1

    @property
    def deadline(self) -> datetime | None:
        return deadline_of(self.control, self.opened, self.suspended)

    @property
    def overdue(self) -> bool:
        return self.deadline is not None and self.now >= self.deadline

    @property
    def due_seconds(self) -> float | None:
        """Until the deadline; none where there is none, or it has passed."""
        return None if self.deadline is None or self.overdue else (self.deadline - self.now).total_seconds()


class Observer:
    """Reads situations: one listing of each folder a step, and no record twice."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # The controls after the sites' updates: one that an update names is then there.
        self.ledger = Ledger(store, (keys.SITES, keys.CONTROLS, keys.GLOBAL))

    def observe(self) -> Situation | None:
        """None before the first control."""
        now = self._store.now()
        self.ledger.look()
        controls = self.ledger.numbered(keys.CONTROLS)
        if not controls:
            return None
        newest = self.control(max(controls))
        rounds = self.ledger.numbered(keys.ROUNDS)
        previous = self.ledger.newest(keys.ROUNDS, Round)
        opened = rounds[max(rounds)].modified if rounds else controls[min(controls)].modified
        closed_under = self.control(previous.control) if previous else newest
        return Situation(
            now=now,
            control=newest,
            controls=frozenset(controls),
            previous=previous,
            opened=opened,
            suspended=suspended_time(
                [(entry.modified, self.control(number).suspend) for number, entry in controls.items()],
                opened,
                now,
            ),
            joined=frozenset(closed_under.active),
            final=self.ledger.find(keys.FINAL, Final),
        )

    def control(self, number: int) -> Control:
        return self.ledger.read(keys.control(number), Control)


def suspended_time(switches: Sequence[tuple[datetime, bool]], since: datetime, until: datetime) -> timedelta:
    """How much of `since`..`until` lies after a switch to suspended and before the next one to running."""
    ends = [moment for moment, _ in switches[1:]] + [until]
    spans = (
        min(end, until) - max(begin, since)
        for (begin, suspended), end in zip(switches, ends, strict=True)
        if suspended
    )
    return sum((max(span, timedelta(0)) for span in spans), start=timedelta(0))
