"""The machine below the cluster: its servers go away and come back."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from cluster.daemons import Daemons
from cluster.layout import POD_CIDR, Layout


@dataclass(frozen=True)
class Node:
    root: Path

    pods = POD_CIDR

    @property
    def daemons(self) -> Daemons:
        return Daemons(Layout(self.root))

    @contextmanager
    def away(self, server: str) -> Iterator[None]:
        """Stopped inside, back afterwards whatever happens."""
        command = self.daemons.command_of(server)
        self.daemons.stop(server)
        try:
            yield
        finally:
            self.daemons.start(server, *command.arguments, env=command.env)

    def restart(self, server: str) -> None:
        with self.away(server):
            pass


def pause(seconds: float) -> None:
    """For outages that have a length."""
    threading.Event().wait(seconds)
