"""A site that waits for others may give back what it holds: its process ends, and a later one goes on."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from segviz_exchange.contract.site_spec import SiteSpec


@dataclass
class Idle:
    """How long a process has had nothing to do that it could do without others."""

    most_seconds: float | None = None
    """After which it ends; never, where it is left out."""
    clock: Callable[[], float] = time.monotonic
    _since: float | None = field(default=None, init=False)

    @classmethod
    def at(cls, site: SiteSpec) -> "Idle":
        release = site.trainer.idle_release
        # A remote site's process is its owner's: where it has ended, nobody starts it again.
        return cls(None if release is None or site.remote else release.after_seconds)

    def begins(self) -> None:
        if self._since is None:
            self._since = self.clock()

    def ends(self) -> None:
        self._since = None

    @property
    def is_over(self) -> bool:
        """Whether it has lasted long enough."""
        if self.most_seconds is None or self._since is None:
            return False
        return self.clock() - self._since >= self.most_seconds
