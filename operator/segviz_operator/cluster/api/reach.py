"""In which of the namespaces it was given the operator may look: consent comes and goes with a RoleBinding.

kopf gives up when a watch of its is forbidden. So it is told of those namespaces alone that may be watched,
and started anew, in the same process, when they are others.
"""

import logging
import threading
import time
from collections.abc import Callable

from segviz_operator.cluster.api.client import FEDERATIONS, JOBS, SITES, Away, Cluster, ClusterError

log = logging.getLogger(__name__)

LOOK_SECONDS = 20.0
"""Less than the minute for which kopf repeats a forbidden request before it gives up."""

Watch = Callable[[tuple[str, ...], threading.Event], None]
"""Watch these namespaces until the event is set or the process is asked to stop."""


def watch_what_can_be(cluster: Cluster, namespaces: tuple[str, ...], watch: Watch) -> None:
    while True:
        there = reachable(cluster, namespaces, ())
        for namespace in sorted(set(namespaces) - set(there)):
            log.warning("%s: may not be watched: it, or a right to look there, is missing", namespace)
        if not there:
            time.sleep(LOOK_SECONDS)
            continue
        look = _Look(cluster, namespaces, there)
        look.start()
        try:
            watch(there, look.stop)
        finally:
            look.stop.set()
            look.join()
        if not look.changed:
            return


def reachable(cluster: Cluster, namespaces: tuple[str, ...], before: tuple[str, ...]) -> tuple[str, ...]:
    """Where an answer fails to come, what was so before holds."""
    return tuple(each for each in namespaces if _may_watch(cluster, each, each in before))


def _may_watch(cluster: Cluster, namespace: str, before: bool) -> bool:
    try:
        for kind in (FEDERATIONS, SITES, JOBS):
            cluster.list(kind, namespace, limit="1")
    except Away:
        return before
    except ClusterError:
        return False
    return True


class _Look(threading.Thread):
    """Asks now and then whether it is still as it was."""

    def __init__(self, cluster: Cluster, namespaces: tuple[str, ...], there: tuple[str, ...]) -> None:
        super().__init__(name="reach", daemon=True)
        self._cluster = cluster
        self._namespaces = namespaces
        self._there = there
        self.stop = threading.Event()
        self.changed = False

    def run(self) -> None:
        while not self.stop.wait(LOOK_SECONDS):
            now = reachable(self._cluster, self._namespaces, self._there)
            if now != self._there:
                log.info("to watch were %s, and are now %s", ", ".join(self._there), ", ".join(now))
                self.changed = True
                self.stop.set()
