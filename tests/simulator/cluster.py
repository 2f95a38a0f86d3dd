"""Where processes run, and the operator that starts them: `LocalBody` itself, over greenlets."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

from segviz_exchange.contract.site_spec import SiteSpec
from segviz_operator.local.body import LOCAL_BACKOFF, LocalBody
from segviz_operator.plan.decide import CreateWorkload, DeleteWorkload, Desired
from segviz_operator.plan.workload import Workload, WorkloadRole, WorkloadState
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.observe import Observer
from segviz_operator.progress.retention import Sweeper
from segviz_operator.progress.status import FederationStatus
from simulator.connection import Connection
from simulator.world import Actor, World

GRACE_SECONDS = 10.0

Start = Callable[[CreateWorkload], Actor]


@dataclass
class Child:
    workload: Workload
    actor: Actor


class Machines:
    """The workloads, as `machine.processes.Processes` has them. They may outlive whoever looks."""

    def __init__(self, world: World, start: Start) -> None:
        self._world, self._start = world, start
        self._children: dict[tuple[WorkloadRole, str | None], Child] = {}

    @property
    def running(self) -> list[str]:
        return [child.workload.name for child in self._children.values() if child.actor.alive]

    def observe(self) -> tuple[Workload, ...]:
        for child in self._children.values():
            if child.workload.running and not child.actor.alive:
                child.workload = self._ended(child)
        return tuple(child.workload for child in self._children.values())

    def has_news(self) -> bool:
        return any(child.workload.running and not child.actor.alive for child in self._children.values())

    def create(
        self,
        action: CreateWorkload,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        before = self._children.get((action.role, action.site))
        if before is not None and before.actor.alive:
            self._world.break_rule(f"{before.workload.name} is started while it runs")
        workload = Workload(
            action.role,
            action.site,
            action.attempt,
            action.failures,
            action.milestone,
            started_at=self._world.moment,
        )
        self._children[action.role, action.site] = Child(workload, self._start(action))

    def delete(self, actions: Sequence[DeleteWorkload]) -> None:
        keys = [(action.role, action.site) for action in actions]
        self._end([self._children.pop(key) for key in keys if key in self._children])

    def drain(self) -> None:
        deadline = self._world.now + GRACE_SECONDS
        while any(child.actor.alive for child in self._children.values()) and self._world.now < deadline:
            self._pause()

    def stop_all(self) -> None:
        self._end(list(self._children.values()))
        self._children.clear()

    def kill_all(self) -> None:
        """As when a parent dies, or a machine."""
        for child in self._children.values():
            child.actor.kill()
        self._children.clear()

    def log(self, role: WorkloadRole, site: str | None) -> Path:
        return Path("/dev/null")

    def _ended(self, child: Child) -> Workload:
        code = child.actor.code
        return replace(
            child.workload,
            state=WorkloadState.FAILED if code else WorkloadState.SUCCEEDED,
            exit_code=code,
            finished_at=self._world.moment + timedelta(seconds=child.actor.skew),
            message=child.actor.message,
        )

    def _end(self, children: list[Child]) -> None:
        for child in children:
            child.actor.stop()
        deadline = self._world.now + GRACE_SECONDS
        while any(child.actor.alive for child in children) and self._world.now < deadline:
            self._pause()
        for child in children:
            child.actor.kill()

    def _pause(self) -> None:
        assert self._world.current is not None, "a process asks"
        self._world.current.pause(0.5)


class Operator(LocalBody):
    """The body's own loop and turns; what it would start as processes are `Machines`, and nobody watches."""

    def __init__(
        self,
        store: Connection,
        machines: Machines,
        sites: Mapping[str, SiteSpec],
        desired: Callable[[], Desired],
        renew: Callable[[Connection, FederationRecords], None],
    ) -> None:
        self._store = store
        self._processes = machines  # type: ignore[assignment]
        self._wanted, self._renew = desired, renew
        self._desired = desired()
        self._observer = Observer(store)
        self._sweeper = Sweeper(store)
        self._backoff = LOCAL_BACKOFF
        self._acted = False
        self._identity = SimpleNamespace(name="a/b", store=str(store), open_store=lambda: store)  # type: ignore
        self._wishes = SimpleNamespace(specs=sites, accepted=SimpleNamespace(withdrawn=()))  # type: ignore
        self._request = SimpleNamespace(poll_seconds=60.0)  # type: ignore[assignment]
        self._watching = SimpleNamespace(  # type: ignore[assignment]
            metrics=SimpleNamespace(reconciling=nullcontext), show=lambda *_: None
        )
        self._view = SimpleNamespace(say=lambda _: None, show=lambda *_: None)  # type: ignore[assignment]
        self.status: FederationStatus | None = None

    @property
    def _kept_rounds(self) -> int | None:
        return 2

    def _read_edits(self) -> None:
        self._desired = self._wanted()

    def _create(self, action: CreateWorkload) -> None:
        self._processes.create(action, (), {})

    def _invite(self, records: FederationRecords) -> None:
        self._renew(self._store, records)

    def _show(self, records: FederationRecords) -> FederationStatus:
        self.status = super()._show(records)
        return self.status
