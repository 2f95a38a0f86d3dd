"""A federation's end: it always comes, whatever is away by then."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from segviz_exchange.errors import Refusal
from segviz_exchange.spec import DeletionPolicy
from segviz_exchange.store import StoreError
from segviz_operator.cluster import FEDERATIONS, JOBS, SECRETS, Cluster, Conflicting, Forbidden, Missing
from segviz_operator.events import PREFIX_DELETED, PREFIX_LEFT, Event
from segviz_operator.jobs import JobSeen
from segviz_operator.manifest import Federation
from segviz_operator.memory import Memory
from segviz_operator.names import FINALIZER
from segviz_operator.retention import purge
from segviz_operator.store_access import NoCredentials

WRITERS_SECONDS = 90.0
"""So long the bucket's contents wait for Pods that still write."""
PATIENCE_SECONDS = 120.0
"""After this, an object or a bucket that cannot be reached is left behind, and an Event says so."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """What one turn came to."""

    released: bool
    events: tuple[Event, ...] = ()


def end(
    cluster: Cluster,
    memory: Memory,
    raw: dict[str, Any],
    federation: Federation | None,
    jobs: tuple[JobSeen, ...],
    secrets: frozenset[tuple[str, str]],
) -> Ending:
    """Delete all that the operator made, then let the federation go.

    Args:
        federation: None where it cannot even be read.
        secrets: namespace and name of each that there may be.
    """
    subject = memory.subject
    asked = datetime.fromisoformat(raw["metadata"]["deletionTimestamp"])
    waited = (datetime.now(UTC) - asked).total_seconds()
    for job in jobs:
        if not job.deleting:
            _ignoring(cluster.delete, JOBS, job.namespace, job.name, "Foreground", job.uid)
    for namespace, name in sorted(secrets):
        _ignoring(cluster.delete, SECRETS, namespace, name)
    purges = federation is not None and federation.spec.deletion_policy is DeletionPolicy.DELETE
    events: tuple[Event, ...] = ()
    if purges and federation is not None:
        if jobs and waited < WRITERS_SECONDS:
            return Ending(released=False)
        left = _purge(cluster, memory, federation)
        if left and waited < PATIENCE_SECONDS:
            return Ending(released=False)
        where = f"{federation.spec.store.url if federation.spec.store else 'the store'}/{subject.prefix}"
        if left:
            events = (Event(PREFIX_LEFT, f"{where} was not deleted: {left}. Delete it by hand.", True),)
        else:
            events = (Event(PREFIX_DELETED, f"{where} is deleted"),)
    release(cluster, raw)
    return Ending(True, events)


def release(cluster: Cluster, raw: dict[str, Any]) -> None:
    metadata = raw["metadata"]
    rest = [each for each in metadata.get("finalizers") or () if each != FINALIZER]
    # The resource version, lest a finalizer that somebody else adds meanwhile be lost.
    patch = {"metadata": {"finalizers": rest, "resourceVersion": metadata["resourceVersion"]}}
    try:
        cluster.merge(FEDERATIONS, metadata["namespace"], metadata["name"], patch)
    except Missing:
        return


def _purge(cluster: Cluster, memory: Memory, federation: Federation) -> str:
    """What keeps the bucket's contents there, or nothing."""
    if federation.spec.store is None:
        return ""
    try:
        store, _ = memory.open(memory.access(cluster, federation.spec.store))
        left = purge(store)
    except (StoreError, NoCredentials, Refusal) as error:
        memory.distrust_store()
        return f"{type(error).__name__}: {error}"
    return f"{left} objects are left" if left else ""


def _ignoring(act: Callable[..., None], *arguments: object) -> None:
    """Where the operator has no right any more, the garbage collector deletes what was made there."""
    try:
        act(*arguments)
    except (Forbidden, Missing, Conflicting) as error:
        log.info("%s", error)
