"""What both of a site's commands begin with: signals, stores, the state's lock, a lease; and how they end.

torch and MONAI take seconds to import, so what needs them is imported where it is used.
"""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import newest_control
from segviz_exchange.contract.progress import Phase
from segviz_exchange.contract.records import Control
from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.process import logs
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.exits import Exit
from segviz_exchange.process.http_pages import serve_metrics
from segviz_exchange.process.lock import lock
from segviz_exchange.process.pace import MOST_SECONDS, Pace
from segviz_exchange.process.stopping import Stop, Stopped
from segviz_exchange.process.waiting import Waiting
from segviz_exchange.stores.changes import alarm_of
from segviz_exchange.stores.measured import MeasuredStore, StoreMetrics
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.patient import PatientStore
from segviz_exchange.stores.signed import SignedStore
from segviz_exchange.stores.store import Store, StoreError
from segviz_trainer.process.errors import outside
from segviz_trainer.process.heartbeat import Heartbeat, Superseded, take_lease
from segviz_trainer.process.pulse import Pulse, PulseCollector
from segviz_trainer.process.site import Site, read_site_spec

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 15 * 60
"""How long a process waits for a store that does not answer before it gives up and is started again."""


@dataclass
class SiteProcess:
    """What both of a site's commands begin with: the stores, the state's lock, a lease."""

    site: Site
    store: Store
    """Waits for a store that is away."""
    opened: Store
    """The same, as it was opened."""
    heartbeat: Heartbeat
    stop: Stop
    pulse: Pulse

    def waiting(self, most_seconds: float = MOST_SECONDS) -> Waiting:
        """For what others write: controls, and what the aggregator makes of the rounds."""
        alarm = alarm_of(self.opened, (keys.GLOBAL, keys.CONTROLS), keys.is_news, self.stop)
        return Waiting(Pace(most_seconds), self.stop, alarm)

    def await_control(self, waiting: Waiting) -> Control:
        while (control := newest_control(self.store)) is None:
            waiting.pause()
        waiting.moved()
        return control

    def examine(self, control: Control) -> None:
        from segviz_trainer.participation.preflight import examine

        self.heartbeat.beat(Phase.PREPARING, message="preflight")
        examine(self.store, self.site, control, self.heartbeat.lease)

    def preparing(self, done: int, cases: int, case: str) -> None:
        # Not which: a case's name may be a patient's.
        self.heartbeat.beat(Phase.PREPARING, step=done, steps=cases)


def run_site(
    work: Callable[[SiteProcess], Exit],
    store: str,
    prefix: str,
    stop_on_stdin_eof: bool,
    alias: str,
    site_spec: Path,
    data_root: Path,
    state: Path,
    home: Path | None,
) -> None:
    """Begin, work, and end with an exit code."""
    stop = Stop(watch_stdin=stop_on_stdin_eof)
    namespace, name = keys.federation_of(prefix)
    logs.configure("trainer", f"{namespace}/{name}", alias)

    def begin_and_work() -> Exit:
        with stop.interrupting():
            registry = CollectorRegistry()
            # Beside what else it keeps: whoever sets the bucket back does not reach it.
            opened = open_store(store, seen=state / "keys").scoped(prefix)
            raw = MeasuredStore(opened, StoreMetrics(registry))
            patient = PatientStore(raw, PATIENCE_SECONDS)
            site = Site(alias, read_site_spec(site_spec), data_root, state, home, prefix)
            check_key(site.spec, opened)
            held = lock(state, stop, "an earlier process")
            heartbeat = Heartbeat(raw, alias, take_lease(patient, alias))
        pulse = Pulse()
        PulseCollector(pulse, (namespace, name, alias), registry)
        serve_metrics(registry)
        with held:
            try:
                return work(SiteProcess(site, patient, opened, heartbeat, stop, pulse))
            except Refusal as error:
                # Also told in the bucket, where people look.
                heartbeat.beat(Phase.FAILED, message=tell(error))
                raise

    def tell(error: Refusal) -> str:
        return outside(error, (data_root, state))

    sys.exit(exit_code_of(begin_and_work, tell))


def check_key(spec: SiteSpec, opened: Store) -> None:
    """Raises Refusal: the site's private key is not the one that its manifest tells others of."""
    if isinstance(spec.signing, msgspec.UnsetType):
        return
    # `segviz run` gives every site a key of its own, whichever the manifest tells a cluster of.
    if not isinstance(opened, SignedStore) or not opened.is_certified:
        return
    told, held = spec.signing.public_key, opened.public
    if told != held:
        raise Refusal(
            f"spec.signing.publicKey is {told[:12]}…, and the private key of this site is that of "
            f"{'none' if held is None else held[:12] + '…'}. Correct publicKey, or the Secret with the key."
        )


def exit_code_of(work: Callable[[], Exit], tell: Callable[[Refusal], str] = str) -> Exit:
    """`tell` says what of a refusal others may read."""
    try:
        return work()
    except Stopped:
        return Exit.STOPPED
    except Superseded as error:
        log.warning("%s; stopping", error)
        return Exit.SUPERSEDED
    except Refusal as error:
        logs.say_why(log, str(error), tell(error))
        return Exit.REFUSED
    except StoreError as error:
        logs.say_why(log, f"the store: {type(error).__name__}: {error}")
        return Exit.RETRY
