"""What a local run shows of itself: metrics on one port, those of its processes on the ports after it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.http_pages import ADDRESS, LOOPBACK, PORT, Pages, own_hosts
from segviz_exchange.process.writing import write_whole
from segviz_operator.local.identity import Identity
from segviz_operator.local.workdir import WorkDir
from segviz_operator.plan.workload import Workload, WorkloadRole
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.status import FederationStatus
from segviz_operator.watch.metrics import OperatorMetrics
from segviz_operator.watch.page import StatusPage
from segviz_operator.watch.samples import Watched

_SERVES = (WorkloadRole.AGGREGATOR, WorkloadRole.TRAINER)
"""The others live for seconds."""


class Watching:
    """Serves nothing where no port was asked for; the values are kept all the same."""

    def __init__(self, port: int | None, workdir: WorkDir) -> None:
        self.metrics = OperatorMetrics()
        self._port = port
        self._targets = workdir.targets
        self._pages: Pages | None = None
        self._ports: dict[tuple[WorkloadRole, str | None], int] = {}

    def open(self) -> None:
        """Raises Refusal where the port is taken."""
        if self._port is None:
            return
        try:
            self._pages = Pages(
                {"/metrics": self.metrics.page, "/": StatusPage(self.metrics.federations.watched)},
                self._port,
                hosts=own_hosts(),
            )
        except OSError as error:
            raise Refusal(f"--metrics-port {self._port}: {error.strerror}. Choose another port.") from error
        self._write_targets()

    def show(
        self,
        identity: Identity,
        status: FederationStatus,
        records: FederationRecords,
        workloads: Sequence[Workload],
    ) -> None:
        now = datetime.now(UTC)
        watched = Watched(identity.namespace, identity.name, status, records, now, tuple(workloads))
        self.metrics.federations.show(watched)

    def environment(self, role: WorkloadRole, site: str | None) -> dict[str, str]:
        """What a child needs to serve its own metrics: the same port for each of its attempts."""
        if self._port is None or role not in _SERVES:
            return {}
        known = self._ports.get((role, site))
        if known is None:
            known = self._ports[role, site] = self._port + 1 + len(self._ports)
            self._write_targets()
        return {PORT: str(known), ADDRESS: LOOPBACK}

    def close(self) -> None:
        if self._pages is not None:
            self._pages.close()
            self._targets.unlink(missing_ok=True)

    def _write_targets(self) -> None:
        """As Prometheus' file_sd_configs reads them; a run that is over leaves none."""
        assert self._port is not None, "nothing is served"
        ports = {"operator": [self._port]}
        for (role, _), port in self._ports.items():
            ports.setdefault(role.lower(), []).append(port)
        groups = [
            {"targets": [f"{LOOPBACK}:{port}" for port in each], "labels": {"component": component}}
            for component, each in ports.items()
        ]
        write_whole(self._targets, json.dumps(groups, indent=2).encode() + b"\n")
