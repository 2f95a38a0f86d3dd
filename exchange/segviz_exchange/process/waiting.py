"""A process between two looks: it sleeps as long as its pace says, or until something wakes it."""

import time
from collections.abc import Callable
from typing import Protocol

from segviz_exchange.process.pace import Pace

_STEP_SECONDS = 0.1
"""How often it is asked whether a silent wait is over; that of a stop ends it at once."""


class Sleeper(Protocol):
    """As `Stop` is one."""

    @property
    def requested(self) -> bool:
        """Whether the process is asked to stop."""

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than until a stop is requested; says whether one is."""


class Alarm(Protocol):
    """Tells of changes, as far as it can: whoever relies on one looks now and then without it."""

    def wait(self, seconds: float, over: Callable[[], bool]) -> bool:
        """Sleep until something changes or it is `over`, at most so long; says whether something has changed.

        What changed since the last wait counts.
        """


class Silence:
    """The alarm of a store that tells nothing."""

    def __init__(self, sleeper: Sleeper) -> None:
        self._sleeper = sleeper

    def wait(self, seconds: float, over: Callable[[], bool]) -> bool:
        end = time.monotonic() + seconds
        while not over() and (left := end - time.monotonic()) > 0.0:
            self._sleeper.wait(min(left, _STEP_SECONDS))
        return False


class Waiting:
    """Sleeps between the looks of one process; knows how long nothing has happened."""

    def __init__(
        self, pace: Pace, sleeper: Sleeper, alarm: Alarm, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pace = pace
        self._sleeper = sleeper
        self._alarm = alarm
        self._clock = clock
        self._since = clock()
        self._woke: float | None = None

    def moved(self) -> None:
        """Something happened, so more may follow soon."""
        self._since = self._clock()
        self._woke = None  # what came after it was work, not a look

    def pause(self, due: float | None = None) -> bool:
        """Sleep; says whether something changed meanwhile. A stop ends it at once.

        Args:
            due: seconds until the clock alone changes what is to be done.
        """
        now = self._clock()
        look = 0.0 if self._woke is None else now - self._woke
        seconds = self._pace.pause(now - self._since, look, due)
        changed = self._alarm.wait(seconds, lambda: self._sleeper.requested)
        self._woke = self._clock()
        if changed:
            self._since = self._woke
        return changed
