"""Many processes in one, of which one runs at a time, under a clock that nobody waits for.

Who comes next follows from the clock and the seed alone, so a seed repeats what happened.
"""

import hashlib
import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import IO

from greenlet import getcurrent, greenlet

from segviz_exchange.process.stopping import Stopped

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_REMEMBERED = 60
"""Events that are shown of a schedule that failed."""


class Killed(BaseException):
    """The process is gone."""


class World:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        """Seconds since EPOCH."""
        self.current: Actor | None = None
        self.actors: list[Actor] = []
        self.calls = 0
        self.faults: Counter[str] = Counter()
        """What was done to the processes and their store, by kind."""
        self.forgiven = ""
        """A process whose own owner has put there what it ends by."""
        self.wrong: list[str] = []
        """Invariants that did not hold."""
        self.last: deque[str] = deque(maxlen=_REMEMBERED)
        self._history = hashlib.sha256()
        self._queue: list[tuple[float, float, int, Callable[[], None]]] = []
        self._events = 0

    @property
    def moment(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now)

    @property
    def digest(self) -> str:
        """Of all that happened, in its order."""
        return self._history.hexdigest()

    def tell(self, event: str) -> None:
        line = f"{self.now:10.3f} {self.current.name if self.current else '-'}: {event}"
        self._history.update(line.encode())
        self.last.append(line)

    def break_rule(self, why: str) -> None:
        self.tell(f"WRONG: {why}")
        self.wrong.append(why)

    def at(self, delay: float, act: Callable[[], None]) -> None:
        """Have something happen later."""
        self._events += 1
        heapq.heappush(self._queue, (self.now + delay, self.chance.random(), self._events, act))

    def start(self, name: str, work: "Callable[[Actor], int]", *, die_at: int | None = None) -> "Actor":
        actor = Actor(self, name, work, die_at)
        self.actors.append(actor)
        self.at(0.0, actor.go_on)
        return actor

    def run(self, over: Callable[[], bool], limit: float) -> bool:
        """Let things happen until it is `over`; false where it is not at `limit`, or nothing happens."""
        while not over():
            if not self._queue or self.now > limit:
                return False
            when, _, _, act = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            act()
        return True

    def close(self) -> None:
        """End every process."""
        for actor in self.actors:
            while actor.alive:
                actor.killed = True
                actor.go_on()
        self.actors.clear()


class Actor:
    """A process: it may be killed wherever it waits, and asked to stop as by SIGTERM (`process.stopping`)."""

    def __init__(
        self, world: World, name: str, work: "Callable[[Actor], int]", die_at: int | None = None
    ) -> None:
        self.world, self.name, self._work = world, name, work
        self.alive, self.killed, self.requested = True, False, False
        self.code: int | None = None
        self.message = ""
        self.holds: list[IO[str]] = []
        """Files that its end closes, as the kernel does."""
        self.on_end: Callable[[], None] = lambda: None
        self.skew = world.chance.uniform(-600.0, 600.0)
        """Of its machine's clock."""
        self._die_at = die_at
        """At which of its waits."""
        self._ticket = 0
        self._interruptible = False
        self._greenlet = greenlet(self._main)

    def go_on(self) -> None:
        """By the scheduler: let it run until it waits again."""
        if not self.alive:
            return
        self.world.current = self
        self._greenlet.parent = getcurrent()
        self._greenlet.switch()
        self.world.current = None
        if not self.alive:
            self.on_end()

    def pause(self, seconds: float) -> None:
        """In this process: let others run meanwhile."""
        self._ticket += 1
        ticket = self._ticket
        self.world.at(max(0.0, seconds), lambda: self._wake(ticket))
        parent = self._greenlet.parent
        assert parent is not None, "the scheduler has let it run"
        parent.switch()
        self.crash_point()
        if self._interruptible and self.requested:
            self._interruptible = False
            raise Stopped

    def crash_point(self) -> None:
        if self._die_at is not None and not self.killed:
            self._die_at -= 1
            if self._die_at <= 0:
                self.killed = True
                self.world.faults["crash"] += 1
        if self.killed:
            raise Killed

    def stop(self) -> None:
        """By another: ask it to end."""
        if self.alive and not self.requested:
            self.requested = True
            ticket = self._ticket
            self.world.at(0.0, lambda: self._wake(ticket))

    def kill(self) -> None:
        """By another, at once."""
        if self.alive:
            self.killed = True
            ticket = self._ticket
            self.world.at(0.0, lambda: self._wake(ticket))

    # --- as `stopping.Stop` --------------------------------------------------------------------------

    def wait(self, seconds: float) -> bool:
        if not self.requested:
            self.pause(seconds)
        return self.requested

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        self._interruptible = True
        try:
            if self.requested:
                raise Stopped
            yield
        finally:
            self._interruptible = False

    def _wake(self, ticket: int) -> None:
        if ticket == self._ticket:
            self._ticket += 1  # what else was to wake it comes too late
            self.go_on()

    def _main(self) -> None:
        try:
            if not self.killed:
                self.code = int(self._work(self))
        except Killed:
            self.code = -9
        except BaseException as error:  # noqa: BLE001 - as the interpreter ends a process
            self.code, self.message = 1, f"{type(error).__name__}: {error}"
            if self.name != self.world.forgiven:
                self.world.break_rule(f"{self.name} ends with a traceback: {self.message}")
        finally:
            for file in self.holds:
                file.close()
            self.world.tell(f"ends with {self.code} {self.message}")
            self.alive = False
