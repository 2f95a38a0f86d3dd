"""One schedule, from the first control to the last record, and what of it was wrong."""

import logging
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

import msgspec

from segviz_aggregator import participants
from segviz_exchange.contract import keys
from segviz_exchange.stores.credentials import Credentials
from segviz_operator.access.handover import credentials_to_tell, is_due
from segviz_operator.access.rights import OPERATOR, Access, site_access
from segviz_operator.joining import attend
from segviz_operator.local import body
from segviz_operator.local.ending import RunExit
from segviz_operator.plan.decide import CreateWorkload, Desired
from segviz_operator.plan.workload import WorkloadRole
from segviz_operator.progress.facts import FederationRecords
from segviz_trainer.participation import rounds
from segviz_trainer.process import heartbeat
from segviz_trainer.training import epochs
from simulator import programs, stub
from simulator.audit import Auditor
from simulator.bucket import Bucket
from simulator.cluster import Machines, Operator
from simulator.connection import Connection
from simulator.lies import Liar
from simulator.remote import Outside
from simulator.schedule import MOST_CRASHES, Schedule
from simulator.world import Actor, World

Item = TypeVar("Item")

_LONGEST_SECONDS = 200_000.0
"""Of a federation that nothing disturbs any more: more than two days for three rounds of minutes."""
_LATE_SECONDS = 1_000.0
"""After which no request is under way any more."""

Wrap = Callable[[Connection, str], Any]
"""A process's store and its name: for tests, which put a bug there."""


@dataclass
class Result:
    schedule: Schedule
    wrong: list[str]
    faults: Counter[str]
    last: list[str]
    """What happened before the end."""
    digest: str
    """Of all that happened."""
    calls: int
    made: tuple[str, ...]
    """Digests of the models and releases."""
    whole: bool
    """Whether all sites were in all rounds with their first attempts: `made` follows from the manifests."""
    seconds: float
    """Of the virtual clock."""


@dataclass
class Simulation:
    schedule: Schedule
    folder: Path
    wrap: Wrap = lambda store, name: store
    world: World = field(init=False)

    def __post_init__(self) -> None:
        self.world = World(self.schedule.seed)
        self.bucket = Bucket(self.world)
        self.auditor = Auditor(self.world, self.bucket, self.schedule.liar)
        self.machines = Machines(self.world, self._start)
        self.ended: int | None = None
        """How the operator ended."""
        self._crashes: Counter[str] = Counter()
        self._expiry: dict[str, datetime] = {}
        self.outside = {
            alias: Outside(self, alias, spec) for alias, spec in self.schedule.sites.items() if spec.remote
        }

    # --- running --------------------------------------------------------------------------------------

    def run(self) -> Result:
        with self._instead():
            self._operate()
            self._plan_loss()
            if self.schedule.second_aggregator:
                self.world.at(self.world.chance.uniform(0.0, 600.0), self._second)
            if liar := self.schedule.liar:
                self.world.forgiven = f"trainer-{liar}"
                self.world.start("liar", partial(self._lie, alias=liar))
            if not self.world.run(self._is_over, _LONGEST_SECONDS):
                self.world.break_rule(f"it does not end: {self._standing()}")
            elif self.ended not in (None, RunExit.COMPLETE):
                self.world.break_rule(f"it ends with {self.ended}: {self._standing()}")
            elif self.ended is not None:
                self.auditor.look_for_orphans()
            until = self.world.now + _LATE_SECONDS
            self.world.at(_LATE_SECONDS, lambda: None)
            self.world.run(lambda: self.world.now >= until, until)
            self._look_at_the_end()
            self.world.close()
        return self._result()

    def _look_at_the_end(self) -> None:
        if self.world.wrong:
            return
        self.auditor.look_for_names()
        for actor in self.world.actors:
            if actor.alive and self.schedule.lost is None:
                self.world.break_rule(f"{actor.name} still runs")

    def _is_over(self) -> bool:
        if self.world.wrong:
            return True
        if self.ended is not None:
            return True
        lost = self.schedule.lost
        if lost in self.outside and self.bucket.find(keys.FINAL):
            # Nobody can tell a site that is away for good from one that comes back to test the model.
            return all(self.bucket.find(keys.outcome(each)) for each in self.schedule.sites if each != lost)
        return False

    def _standing(self) -> str:
        beat = (self.bucket.find(keys.AGGREGATOR_PROGRESS) or b"").decode()
        status = self._operator.status
        return f"{status.phase if status else '-'}: {status.reason if status else '-'}; aggregator: {beat}"

    def _result(self) -> Result:
        closings = self.auditor.closings()
        everybody = tuple(self.schedule.sites)
        whole = all(
            tuple(each.site for each in closing.participants) == everybody
            and all(each.attempt == 1 for each in closing.participants)
            for closing in closings
        )
        return Result(
            self.schedule,
            self.world.wrong,
            self.world.faults,
            list(self.world.last),
            self.world.digest,
            self.world.calls,
            self.auditor.result(),
            whole and not self.world.wrong and self.ended == RunExit.COMPLETE,
            self.world.now,
        )

    # --- processes ------------------------------------------------------------------------------------

    def connect(self, actor: Actor, access: Access, expires: programs.Expiry) -> Any:
        return self.wrap(Connection(self.bucket, actor, self.schedule.weather, access, expires), actor.name)

    def die_at(self, name: str) -> int | None:
        """At which call an incarnation dies."""
        chance = self.world.chance
        quiet = self.world.now >= self.schedule.weather.clears
        if quiet or self._crashes[name] >= MOST_CRASHES or chance.random() >= self.schedule.crash_rate:
            return None
        self._crashes[name] += 1
        return chance.randint(1, self.schedule.crash_calls)

    def is_lost(self, alias: str | None) -> bool:
        return alias is not None and alias == self.schedule.lost and self.world.now >= self.schedule.lost_at

    def _operate(self) -> None:
        actor = self.world.start("operator", self._operator_main, die_at=self.die_at("operator"))
        actor.on_end = lambda: self._operator_ended(actor)

    def _operator_main(self, actor: Actor) -> int:
        store = self.connect(actor, OPERATOR, lambda: None)
        self._operator = Operator(store, self.machines, self.schedule.sites, self._desired, self._renew)
        return self._operator.run(actor)  # type: ignore[arg-type]

    def _operator_ended(self, actor: Actor) -> None:
        if actor.code is not None and actor.code >= 0:
            self.ended = actor.code
            return
        if self.schedule.operator_takes_all:
            self.machines.kill_all()
        self.world.at(self.world.chance.uniform(1.0, 300.0), self._operate)

    def _desired(self) -> Desired:
        begin, end = self.schedule.suspended or (0.0, 0.0)
        suspend = begin <= self.world.now < end
        spec = msgspec.structs.replace(self.schedule.spec, suspend=suspend)
        return Desired(spec, {alias: site.organs for alias, site in self.schedule.sites.items()})

    def _start(self, action: CreateWorkload) -> Actor:
        name = action.role.lower() if action.site is None else f"trainer-{action.site}"
        self._expiry.setdefault(name, self.lifetime_from_now)
        lost = self.is_lost(action.site)
        return self.world.start(name, self._work_of(action), die_at=1 if lost else self.die_at(name))

    def _work_of(self, action: CreateWorkload) -> Callable[[Actor], int]:
        name = action.role.lower() if action.site is None else f"trainer-{action.site}"
        outside = self.outside.get(action.site or "")
        expiry: programs.Expiry = outside.expires if outside else lambda: self._expiry[name]
        match action.role:
            case WorkloadRole.AGGREGATOR:
                scratch = self.folder / "scratch"
                return partial(programs.aggregate, connect=self.connect, expiry=expiry, scratch=scratch)
            case WorkloadRole.EXPORT:
                return partial(programs.export, connect=self.connect, expiry=expiry)
        assert action.site is not None, "no external sets here"
        return self.trainer(action.site, expiry)

    def trainer(self, alias: str, expiry: programs.Expiry) -> Callable[[Actor], int]:
        spec, state = self.schedule.sites[alias], self.folder / "state" / alias
        return partial(
            programs.participate, connect=self.connect, expiry=expiry, alias=alias, spec=spec, state=state
        )

    def _second(self) -> None:
        scratch = self.folder / "scratch-2"
        work = partial(programs.aggregate, connect=self.connect, expiry=lambda: None, scratch=scratch)
        self.world.start("aggregator-2", work, die_at=self.die_at("aggregator-2"))

    def _lie(self, actor: Actor, alias: str) -> int:
        store = Connection(self.bucket, actor, self.schedule.weather, site_access(alias), lambda: None)
        return Liar(alias, self.schedule.lies).run(actor, store)

    def _plan_loss(self) -> None:
        alias = self.schedule.lost
        if alias is None:
            return

        def lose() -> None:
            self.world.faults["a site lost for good"] += 1
            for actor in self.world.actors:
                if actor.name in (f"trainer-{alias}", f"join-{alias}"):
                    actor.kill()

        self.world.at(self.schedule.lost_at, lose)

    # --- credentials ----------------------------------------------------------------------------------

    @property
    def lifetime_from_now(self) -> datetime:
        return self.world.moment + timedelta(seconds=self.schedule.credential_seconds)

    def _renew(self, store: Connection, records: FederationRecords) -> None:
        """As the operator does each turn: Secrets of those here, the next credentials of those outside."""
        seconds = self.schedule.credential_seconds
        for name, end in self._expiry.items():
            if is_due(self.credentials(end), seconds, records.now):
                self._expiry[name] = self.lifetime_from_now
        for alias, outside in self.outside.items():
            mint = lambda: self.credentials(self.lifetime_from_now)  # noqa: E731
            fresh = credentials_to_tell(store, alias, mint, seconds, records.now, outside.is_invited)
            if fresh is not None:
                outside.invite(fresh)

    def credentials(self, end: datetime) -> Credentials:
        return Credentials("key", "secret", "token", end)

    # --- what is real time elsewhere ------------------------------------------------------------------

    @contextmanager
    def _instead(self) -> Iterator[None]:
        before = random.getstate()
        random.seed(self.schedule.seed)  # tenacity's waits
        clock = SimpleNamespace(monotonic=self._tick)
        with ExitStack() as patches:
            for where, name, made in (
                (heartbeat, "time", clock),
                (rounds, "time", clock),
                (epochs, "time", clock),
                (attend, "time", clock),
                (attend, "_LOOK_SECONDS", 20.0),
                (attend, "last_words", lambda *_: ""),
                (attend, "Processes", lambda logs, grace_seconds: Machines(self.world, self._start)),
                (body, "datetime", SimpleNamespace(now=self._wall_clock)),
                (body, "_LONGEST_REST_SECONDS", 30.0),
                (body, "alarm_of", lambda store, folders, news, stop: programs.Quiet(stop)),
                (os, "fsync", self._sync),
                (participants, "side_by_side", _in_turn),
            ):
                patches.enter_context(patch.object(where, name, made))
            patches.enter_context(stub.instead(self._train_for_a_step))
            logging.disable(logging.CRITICAL)
            try:
                yield
            finally:
                self.world.close()
                logging.disable(logging.NOTSET)
                random.setstate(before)

    def _tick(self) -> float:
        self.world.now += 1e-6
        return self.world.now

    def _wall_clock(self, zone: object) -> datetime:
        actor = self.world.current
        return self.world.moment + timedelta(seconds=actor.skew if actor else 0.0)

    def _sync(self, descriptor: int) -> None:
        """A process may be killed between two writes to its disk, too; the disk itself loses nothing here."""
        if self.world.current is not None:
            self.world.current.crash_point()

    def _train_for_a_step(self) -> None:
        assert self.world.current is not None, "a trainer trains"
        self.world.current.pause(self.schedule.step_seconds)


def _in_turn(makers: Iterable[Callable[[], Item]], *, workers: int, name: str) -> Iterator[Item]:
    """A process here has one thread: who may die at any call must be one."""
    return (make() for make in makers)


def simulate(schedule: Schedule, wrap: Wrap = lambda store, name: store) -> Result:
    # In memory, where there is such a place: a disk's latency is not what is asked for.
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where, prefix="segviz-simulate-") as folder:
        return Simulation(schedule, Path(folder), wrap).run()
