"""What changes in a folder store, told by the kernel in place of looking again and again.

A convenience, never a promise: a network's file system tells nothing of what other machines write, and the
kernel's watches may run out. So whoever waits here looks now and then all the same.
"""

import logging
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segviz_exchange.process.waiting import Alarm, Silence, Sleeper
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.signed import SignedStore
from segviz_exchange.stores.store import Store

if TYPE_CHECKING:
    from watchfiles import Change

_STEP_MILLISECONDS = 10
"""What is written within one wakes once."""
_ROUND_MILLISECONDS = 50
"""How often it is asked whether the wait is over, and the longest that changes are collected."""

log = logging.getLogger(__name__)


def alarm_of(store: Store, folders: Sequence[str], news: Callable[[str], bool], sleeper: Sleeper) -> Alarm:
    """Tells of changes in a store below these folders, where it is one that can.

    Args:
        folders: prefixes that end with a slash; "" is the whole store.
        news: whether a change of this key concerns whoever waits. New folders count as keys.
    """
    if isinstance(store, SignedStore):
        store = store.inner
    if not isinstance(store, FolderStore):
        return Silence(sleeper)
    return FolderAlarm(store.root, folders, news, sleeper)


class FolderAlarm:
    """Watches from the first wait on. Not safe for use by several threads."""

    def __init__(
        self, root: Path, folders: Sequence[str], news: Callable[[str], bool], sleeper: Sleeper
    ) -> None:
        self._root = root
        self._folders = tuple(root / folder for folder in folders)
        self._news = news
        self._silence = Silence(sleeper)
        self._watched: tuple[Path, ...] = ()
        self._changes: Generator[set[tuple[Change, str]]] | None = None
        self._broken = False

    def wait(self, seconds: float, over: Callable[[], bool]) -> bool:
        if self._begin():
            return True  # between the last look and now anything may have changed
        if self._changes is None:
            return self._silence.wait(seconds, over)
        end = time.monotonic() + seconds
        while not over() and time.monotonic() < end:
            changes = self._next()
            if changes is None:
                return self._silence.wait(end - time.monotonic(), over)
            if any(self._is_news(path) for _, path in changes):
                return True
        return False

    def close(self) -> None:
        if self._changes is not None:
            self._changes.close()
        self._changes, self._watched = None, ()

    def _begin(self) -> bool:
        """Watch what there is to watch; says whether that is more than before."""
        there = tuple(folder for folder in self._folders if folder.is_dir())
        if self._broken or not there or (self._changes is not None and there == self._watched):
            return False
        self.close()
        from watchfiles import watch  # slow to import, and not needed without a folder

        # It tells of every change, and warns of every signal.
        logging.getLogger("watchfiles").setLevel(logging.ERROR)
        self._changes = watch(
            *there,
            watch_filter=None,  # it would leave out silently, and so keep us from looking whether it is over
            debounce=_ROUND_MILLISECONDS,
            step=_STEP_MILLISECONDS,
            rust_timeout=_ROUND_MILLISECONDS,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        self._watched = there
        return self._next() is not None  # the watch begins with the first step

    def _is_news(self, path: str) -> bool:
        return self._news(Path(path).relative_to(self._root).as_posix())

    def _next(self) -> "set[tuple[Change, str]] | None":
        """What has changed, perhaps nothing; None where no changes are told any more."""
        assert self._changes is not None, "it has begun"
        try:
            return next(self._changes)
        except StopIteration:
            # A signal, which its handler has dealt with; the next wait watches again.
            self.close()
        except (OSError, RuntimeError) as error:  # the library's own is a RuntimeError
            log.info("changes in %s are not told (%s); looking now and then instead", self._root, error)
            self.close()
            self._broken = True
        return None
