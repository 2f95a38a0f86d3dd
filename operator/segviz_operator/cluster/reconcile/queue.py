"""Which federations are to be looked at: each once at a time, and again if something happens meanwhile.

What has happened goes before what has merely come due: a thousand federations that are polled keep nobody's
edit waiting.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

EVENTS_IN_A_ROW = 3
"""After so many, one that has come due gets its turn, also where events do not end."""


@dataclass
class WorkQueue:
    """Lives on one event loop."""

    most_due: int = 8
    """So many that have come due are busy at once, so that who works has somebody left for events."""
    _events: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _due: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _busy: dict[str, bool] = field(default_factory=dict)
    """Whether it is because it had come due."""
    _busy_due: int = 0
    _again: set[str] = field(default_factory=set)
    """Busy ones that something has happened to."""
    _timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _in_a_row: int = 0

    def add(self, key: str) -> None:
        """Something has happened to it."""
        self._stop_timer(key)
        if key in self._busy:
            self._again.add(key)
            return
        self._due.pop(key, None)
        self._events.setdefault(key)
        self._news.set()

    def add_after(self, key: str, seconds: float) -> None:
        self._stop_timer(key)
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._come_due, key)

    def add_soon(self, key: str, seconds: float) -> None:
        """No later than after so many seconds; what happens until then costs nothing more."""
        if key not in self._timers and key not in self._events and key not in self._due:
            self.add_after(key, seconds)

    async def take(self) -> str:
        while (key := self._next()) is None:
            self._news.clear()
            await self._news.wait()
        return key

    def done(self, key: str, again_seconds: float | None) -> None:
        if self._busy.pop(key):
            self._busy_due -= 1
            self._news.set()
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif again_seconds is not None:
            self.add_after(key, again_seconds)

    def __len__(self) -> int:
        return len(self._events) + len(self._due)

    def _come_due(self, key: str) -> None:
        self._timers.pop(key, None)
        if key in self._busy:
            self._again.add(key)
        elif key not in self._events:
            self._due.setdefault(key)
            self._news.set()

    def _next(self) -> str | None:
        may_be_due = bool(self._due) and self._busy_due < self.most_due
        is_due = may_be_due and (not self._events or self._in_a_row >= EVENTS_IN_A_ROW)
        if not is_due and not self._events:
            return None
        key, _ = (self._due if is_due else self._events).popitem(last=False)
        self._in_a_row = 0 if is_due else self._in_a_row + 1
        self._busy[key] = is_due
        self._busy_due += is_due
        return key

    def _stop_timer(self, key: str) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
