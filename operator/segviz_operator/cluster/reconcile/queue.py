"""Which federations are to be looked at: each once at a time, and again if something happens meanwhile."""

import asyncio
from collections import deque
from dataclasses import dataclass, field


@dataclass
class WorkQueue:
    """Lives on one event loop."""

    _ready: deque[str] = field(default_factory=deque)
    _waiting: set[str] = field(default_factory=set)
    """In `_ready`."""
    _busy: set[str] = field(default_factory=set)
    _again: set[str] = field(default_factory=set)
    """Busy ones that something has happened to."""
    _timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, key: str) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._busy:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.append(key)
            self._news.set()

    def add_after(self, key: str, seconds: float) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.add, key)

    def add_soon(self, key: str, seconds: float) -> None:
        """No later than after so many seconds; what happens until then costs nothing more."""
        if key not in self._timers and key not in self._waiting:
            self.add_after(key, seconds)

    async def take(self) -> str:
        while not self._ready:
            self._news.clear()
            await self._news.wait()
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._busy.add(key)
        return key

    def done(self, key: str, again_seconds: float | None) -> None:
        self._busy.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif again_seconds is not None:
            self.add_after(key, again_seconds)

    def __len__(self) -> int:
        return len(self._ready)
