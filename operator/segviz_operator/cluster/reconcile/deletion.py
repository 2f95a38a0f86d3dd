"""A federation's end: it always comes, whatever is away by then."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import DeletionPolicy
from segviz_exchange.contract.ledger import newest, read
from segviz_exchange.contract.records import Holder
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.store import StoreError
from segviz_operator.cluster.api.client import (
    FEDERATIONS,
    JOBS,
    SECRETS,
    Cluster,
    Conflicting,
    Forbidden,
    Missing,
)
from segviz_operator.cluster.api.names import FINALIZER
from segviz_operator.cluster.credentials.store_access import NoCredentials
from segviz_operator.cluster.objects.jobs import JobSeen
from segviz_operator.cluster.reconcile.adoption import is_holder
from segviz_operator.cluster.reconcile.memory import Memory
from segviz_operator.cluster.status.events import PREFIX_DELETED, PREFIX_LEFT, Event
from segviz_operator.manifests.manifest import Federation
from segviz_operator.progress.retention import purge

WRITERS_SECONDS = 30.0
"""So much longer than their grace period the bucket's contents wait for Pods that still write."""
PATIENCE_SECONDS = 120.0
"""After this, a bucket that cannot be reached is left behind, and an Event says so."""

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
    now = time.monotonic()
    # Not since somebody asked: the operator may have been away, and nothing was tried meanwhile.
    memory.ending_since = began = now if memory.ending_since is None else memory.ending_since
    for job in jobs:
        if not job.deleting:
            _ignoring(cluster.delete, JOBS, job.namespace, job.name, "Foreground", job.uid)
    for namespace, name in sorted(secrets):
        _ignoring(cluster.delete, SECRETS, namespace, name)
    purges = federation is not None and federation.spec.deletion_policy is DeletionPolicy.DELETE
    events: tuple[Event, ...] = ()
    if purges and federation is not None:
        if jobs and now < began + max(job.grace_seconds for job in jobs) + WRITERS_SECONDS:
            return Ending(released=False)
        where = f"{federation.spec.store.url if federation.spec.store else 'the store'}/{subject.prefix}"
        try:
            if _purge(cluster, memory, federation):
                memory.purge_fails_since = None
                return Ending(released=False)
            events = (Event(PREFIX_DELETED, f"{where} is deleted"),)
        except (StoreError, NoCredentials, Refusal) as error:
            memory.distrust_store()
            memory.purge_fails_since = failing = memory.purge_fails_since or now
            if now < failing + PATIENCE_SECONDS:
                return Ending(released=False)
            why = f"{type(error).__name__}: {error}"
            events = (Event(PREFIX_LEFT, f"{where} was not deleted: {why}. Delete it by hand.", True),)
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


def _purge(cluster: Cluster, memory: Memory, federation: Federation) -> int:
    """How many objects are left for the next turns. Raises StoreError, NoCredentials or Refusal."""
    if federation.spec.store is None:
        return 0
    store, _ = memory.open(memory.access(cluster, federation.spec.store))
    key = newest(store, keys.HOLDERS)
    if not is_holder(memory.subject, None if key is None else read(store, key, Holder)):
        raise Refusal("another federation goes on with these records, or they were never this one's")
    return purge(store)


def _ignoring(act: Callable[..., None], *arguments: object) -> None:
    """Where the operator has no right any more, the garbage collector deletes what was made there."""
    try:
        act(*arguments)
    except (Forbidden, Missing, Conflicting) as error:
        log.info("%s", error)
