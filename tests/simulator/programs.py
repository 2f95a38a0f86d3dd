"""What runs in each process: the programs' own code, as their `main` puts it together."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO

from segviz_aggregator.loop import Aggregator, run
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import InvalidRecord, commit, read
from segviz_exchange.contract.records import Control, Exported, Final, Round, Variant
from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.process.exits import Exit
from segviz_exchange.process.lock import lock
from segviz_exchange.process.pace import Pace
from segviz_exchange.process.waiting import Waiting
from segviz_exchange.stores.patient import PatientStore
from segviz_operator.access.rights import AGGREGATOR, EXPORT, site_access
from segviz_trainer.participation.participant import Participant
from segviz_trainer.participation.rounds import RoundLoop
from segviz_trainer.participation.site_process import PATIENCE_SECONDS, SiteProcess, exit_code_of
from segviz_trainer.process.heartbeat import Heartbeat, take_lease
from segviz_trainer.process.pulse import Pulse
from segviz_trainer.process.site import Site
from simulator.connection import Connection
from simulator.stub import data_of
from simulator.world import Actor

POLL_SECONDS = 60.0
BEAT_SECONDS = 30.0

Connect = Callable[..., Connection]
"""By a process, with its rights and the end of its credentials."""
Expiry = Callable[[], datetime | None]


class Quiet:
    """The alarm of a store that tells nothing, in virtual time."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def wait(self, seconds: float, over: Callable[[], bool]) -> bool:
        if not over():
            self._actor.wait(seconds)
        return False


def waiting(actor: Actor) -> Waiting:
    return Waiting(Pace(POLL_SECONDS), actor, Quiet(actor), lambda: actor.world.now)


def patient(actor: Actor, store: Connection, seconds: float = PATIENCE_SECONDS) -> PatientStore:
    return PatientStore(store, seconds, sleep=actor.pause, clock=lambda: actor.world.now)


def _lock(actor: Actor, folder: Path) -> IO[str]:
    held = lock(folder, actor, "an earlier process")  # type: ignore[arg-type]
    actor.holds.append(held)
    return held


def aggregate(actor: Actor, connect: Connect, expiry: Expiry, scratch: Path) -> int:
    store = patient(actor, connect(actor, AGGREGATOR, expiry), 600.0)

    def work() -> Exit:
        with _lock(actor, scratch):
            return run(Aggregator(store, scratch), actor, waiting(actor))

    try:
        return exit_code_of(work)
    except InvalidRecord as error:
        actor.message = str(error)
        return Exit.REFUSED


def participate(
    actor: Actor, connect: Connect, expiry: Expiry, alias: str, spec: SiteSpec, state: Path
) -> int:
    raw = connect(actor, site_access(alias), expiry)

    def work() -> Exit:
        with actor.interrupting():
            store = patient(actor, raw)
            held = _lock(actor, state)
            heartbeat = Heartbeat(raw, alias, take_lease(store, alias), BEAT_SECONDS)
        with held:
            site = Site(alias, spec, state / "data", state)
            process = SiteProcess(site, store, raw, heartbeat, actor, Pulse())
            with actor.interrupting():
                process.await_control(waiting(actor))
            me = Participant(store, site, data_of(alias, spec.organs), heartbeat, actor, process.pulse)
            return RoundLoop(me, waiting(actor)).run()

    return exit_code_of(work)


def export(actor: Actor, connect: Connect, expiry: Expiry) -> int:
    """Stands for the export, of which the records alone matter here."""
    store = patient(actor, connect(actor, EXPORT, expiry))

    def work() -> Exit:
        with actor.interrupting():
            final = read(store, keys.FINAL, Final)
            control = read(store, keys.control(final.control), Control)
            record = read(store, keys.round_record(final.round), Round)
            for variant in (Variant.BASE,) if control.spec.fine_tuning is None else tuple(Variant):
                organs, size = control.organs, record.size_bytes
                made = Exported(variant, final.round, record.blob, size, organs, organs, control.spec)
                commit(store, keys.exported(variant), made)
        return Exit.DONE

    return exit_code_of(work)
