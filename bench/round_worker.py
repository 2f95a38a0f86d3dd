"""One process of bench/round.py: the aggregator, or a site whose training gives back what it got."""

from pathlib import Path

from prometheus_client import CollectorRegistry
from round import ORGANS, PREFIX, SITES

from builders.rig import site_spec  # type: ignore[import-not-found]
from segviz_aggregator.loop import Aggregator, run
from segviz_exchange.contract import keys
from segviz_exchange.contract.records import Control, Round
from segviz_exchange.process.pace import Pace
from segviz_exchange.process.stopping import Stop
from segviz_exchange.process.waiting import Waiting
from segviz_exchange.stores.changes import alarm_of
from segviz_exchange.stores.measured import MeasuredStore, StoreMetrics
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.patient import PatientStore
from segviz_exchange.stores.store import Store
from segviz_trainer.data.dataset import SiteData
from segviz_trainer.participation.participant import Participant
from segviz_trainer.participation.rounds import RoundLoop
from segviz_trainer.process.heartbeat import Heartbeat, take_lease
from segviz_trainer.process.site import Site
from segviz_trainer.training.checkpoint import Checkpoint, Position


class Idle(RoundLoop):
    """Trains nothing; all else is as it is."""

    train_seconds = 0.0

    def _train(self, latest: Round, attempt: int, control: Control) -> Checkpoint:
        self.me.stop.wait(self.train_seconds)
        at = Position(latest.round + 1, attempt, control.spec.local_epochs, 0)
        return Checkpoint(at, {}, {}, loss=0.0, loss_sum=0.0, seconds=self.train_seconds)


def work(role: str, url: str, folder: Path, train_seconds: float) -> dict[str, float]:
    """Until the federation is over; what it asked of the store."""
    stop, registry = Stop(), CollectorRegistry()
    opened = open_store(url).scoped(PREFIX)
    store = PatientStore(MeasuredStore(opened, StoreMetrics(registry)), 60.0)
    if role == "aggregator":
        alarm = alarm_of(opened, (keys.SITES, keys.CONTROLS), keys.is_news, stop)
        run(Aggregator(store, folder), stop, Waiting(Pace(), stop, alarm))
    else:
        alarm = alarm_of(opened, (keys.GLOBAL, keys.CONTROLS), keys.is_news, stop)
        loop = Idle(participant(role, store, folder, stop), Waiting(Pace(), stop, alarm))
        loop.train_seconds = train_seconds
        loop.run()
    return {"requests": requests(registry)}


def participant(alias: str, store: Store, folder: Path, stop: Stop) -> Participant:
    organ = dict(zip(SITES, ORGANS, strict=True))[alias]
    site = Site(alias, site_spec((organ,)), folder / "data", folder / "state")
    site.state.mkdir(parents=True)
    heartbeat = Heartbeat(store, alias, take_lease(store, alias))
    # An update says how many cases it comes from; nothing reads them.
    data = SiteData(("a case",), (), ())  # type: ignore[arg-type]
    return Participant(store, site, data, heartbeat, stop)


def requests(registry: CollectorRegistry) -> float:
    name = "segviz_store_request_duration_seconds_count"
    return sum(sample.value for each in registry.collect() for sample in each.samples if sample.name == name)
