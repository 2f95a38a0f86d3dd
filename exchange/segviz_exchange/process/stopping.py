"""How a process is asked to stop: by signal, or by the death of the parent that holds its stdin."""

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """Raised out of an interruptible stretch. Not an Exception: no retry may swallow it."""


class Stop:
    """A request that, once made, stays. Make one per process, in its main thread.

    With `watch_stdin`, the end of stdin is such a request too: a child ends with its parent, even where
    the parent was killed and could tell nobody.
    """

    def __init__(self, *, watch_stdin: bool = False) -> None:
        self.requested = False
        self._interruptible = False
        # A pipe and not a threading.Event: an Event's lock is not safe to take in a signal handler.
        self._readable, self._writable = os.pipe()
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)
        if watch_stdin:
            threading.Thread(target=_terminate_at_end_of_stdin, name="stdin", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than until a stop is requested; says whether one is."""
        select.select([self._readable], [], [], seconds)
        return self.requested

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """A stretch that may end anywhere, as if killed: a request raises Stopped inside it."""
        self._interruptible = True
        try:
            if self.requested:
                raise Stopped
            yield
        finally:
            self._interruptible = False

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = True
            os.write(self._writable, b"x")  # stays unread, so every later wait returns at once
        if self._interruptible:
            self._interruptible = False  # a second request must not interrupt what the first one cleans up
            raise Stopped


def _terminate_at_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    # By way of the signal, so that there is one path; to the main thread, so that it wakes from its select.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
