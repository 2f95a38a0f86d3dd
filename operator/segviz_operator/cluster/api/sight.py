"""Whether the API server serves SegViz's kinds: without them an operator would be healthy, and blind."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from segviz_exchange.process.http_pages import Answer
from segviz_operator.cluster.api.client import FEDERATIONS, SITES, Cluster, ClusterError

log = logging.getLogger(__name__)

WAIT_SECONDS = 2.0
LOOK_SECONDS = 20.0
"""Between two looks, once the kinds were there."""
APPLY = "kubectl apply --server-side -f charts/segviz-operator/crds/"


@dataclass
class Sight:
    cluster: Cluster
    blind: str = "the operator starts"
    """Why nothing is seen; empty where everything is."""

    def look(self) -> bool:
        try:
            missing = missing_kinds(self.cluster)
        except ClusterError as error:
            # kopf waits for an API server that is away, and says so.
            log.info("%s", error)
            return not self.blind
        before, names = self.blind, ", ".join(missing)
        self.blind = f"the API server does not serve {names}. Apply the CRDs: {APPLY}" if missing else ""
        if self.blind and self.blind != before:
            log.error("nothing is watched: %s", self.blind)
        return not self.blind

    def wait(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Until the kinds are there."""
        while not self.look():
            sleep(WAIT_SECONDS)

    def keep_looking(self) -> None:
        """In a thread: somebody may delete the CRDs."""
        threading.Thread(target=self._go_on, name="sight", daemon=True).start()

    def page(self, _: Mapping[str, str] | None = None) -> Answer:
        """For a readiness probe."""
        said = f"not ready: {self.blind}\n" if self.blind else "ready\n"
        return Answer(said.encode(), "text/plain; charset=utf-8", 503 if self.blind else 200)

    def _go_on(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            self.look()


def missing_kinds(cluster: Cluster) -> tuple[str, ...]:
    """Raises ClusterError."""
    served = cluster.served(FEDERATIONS.api)
    return tuple(kind.plural for kind in (FEDERATIONS, SITES) if kind.plural not in served)
