"""What a turn has to work with, and what it comes to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from segviz_exchange.stores.store import Store
from segviz_operator.cluster.credentials.store_access import StoreAccess
from segviz_operator.cluster.status.events import Event
from segviz_operator.cluster.status.federation_status import Picture
from segviz_operator.manifests.manifest import Site
from segviz_operator.plan.phase import FederationPhase
from segviz_operator.progress import retention
from segviz_operator.progress.observe import Observer
from segviz_operator.progress.status import FederationStatus
from segviz_operator.watch.samples import Watched

RESTING_SECONDS = 60.0
"""Until a federation that waits for people is looked at again without a reason."""


@dataclass(frozen=True)
class Outcome:
    picture: Picture
    again_seconds: float | None
    resource_version: str
    """Of the federation when its status was made: who writes it must know all that was written before."""
    events: tuple[Event, ...] = ()
    watched: Watched | None = None
    """For the metrics."""
    sites: Mapping[str, Site] = field(default_factory=dict)
    """Who takes part, by alias: their owners are told of some Events."""


@dataclass(frozen=True)
class Bucket:
    """A federation's prefix, opened."""

    access: StoreAccess
    store: Store
    observer: Observer


class NotBegun(Exception):
    """Nothing is done before people have mended or given something."""

    def __init__(self, reason: str, message: str, again_seconds: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.again_seconds = again_seconds


def again_seconds(summary: FederationStatus, bucket: Bucket, poll_seconds: float) -> float | None:
    """Until a federation is looked at again without a reason; None is never."""
    match summary.phase:
        case FederationPhase.COMPLETE:
            # Only what is left to be deleted may still change.
            left = retention.blobs_in(bucket.observer.entries).updates
            return RESTING_SECONDS if left and bucket.access.spec.retention.kept_rounds else None
        case FederationPhase.FAILED | FederationPhase.SUSPENDED:
            return RESTING_SECONDS
        case _:
            return poll_seconds
