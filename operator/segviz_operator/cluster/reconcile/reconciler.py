"""The cluster's body: observe, `decide`, apply, and one patch of the status.

What is kept between two turns can all be read back: records that never change, what a Secret's annotations
say, who has consented. Whatever is killed, the next turn goes on from the cluster and the bucket.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from segviz_exchange.contract.choices import DeletionPolicy
from segviz_exchange.process import logs
from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.client import (
    EVENTS,
    FEDERATIONS,
    SITES,
    Cluster,
    ClusterError,
    Conflicting,
    Forbidden,
    Missing,
)
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.membership.consent import Consents
from segviz_operator.cluster.membership.known_sites import secrets_of
from segviz_operator.cluster.membership.provenance import homes_of, own_jobs
from segviz_operator.cluster.reconcile.deletion import end
from segviz_operator.cluster.reconcile.memory import Memory
from segviz_operator.cluster.reconcile.outcome import RESTING_SECONDS, Outcome
from segviz_operator.cluster.reconcile.seen import Seen
from segviz_operator.cluster.reconcile.settings import Settings
from segviz_operator.cluster.reconcile.turn import FederationTurn
from segviz_operator.cluster.status import conditions as c
from segviz_operator.cluster.status.events import About, Event, build_event, events_between
from segviz_operator.cluster.status.federation_status import Picture, build_federation_status
from segviz_operator.cluster.status.news import merge_patch
from segviz_operator.cluster.status.site_status import build_site_status
from segviz_operator.manifests.manifest import Federation, Site, from_server
from segviz_operator.manifests.problem import InvalidManifest
from segviz_operator.watch.metrics import OperatorMetrics

log = logging.getLogger(__name__)

CONFLICT_SECONDS = 1.0
"""Until a look at a federation that somebody else changed during this one."""
ENDING_SECONDS = 2.0
"""Between two looks at a federation that is being deleted."""


@dataclass(frozen=True)
class Done:
    """What became of a federation."""

    again_seconds: float | None
    status: Mapping[str, Any]
    told: bool = False
    """Whether its status was written."""


class Reconciler:
    def __init__(self, cluster: Cluster, settings: Settings, metrics: OperatorMetrics) -> None:
        self._cluster = cluster
        self._settings = settings
        self._metrics = metrics
        self._consents = Consents(cluster)
        self._memories: dict[str, Memory] = {}

    def reconcile(self, seen: Seen) -> Done:
        """One turn for one federation; never two at once for the same one.

        Raises:
            ClusterError: the API server did not do it; the next turn tries again.
        """
        subject = Subject.of(seen.raw)
        with logs.speaking_of(subject.key), self._metrics.reconciling():
            return self._reconcile(seen, subject)

    def _reconcile(self, seen: Seen, subject: Subject) -> Done:
        metadata = seen.raw["metadata"]
        fresh = Memory(subject, self._metrics.measured, identity=self._settings.identity)
        memory = self._memories.setdefault(subject.uid, fresh)
        if memory.subject != subject:
            memory = self._memories[subject.uid] = fresh  # other records than before
        before: Mapping[str, Any] = seen.raw.get("status") or {}
        federation, unreadable = _parse(seen.raw)
        if "deletionTimestamp" in metadata:
            return self._end(seen, memory, federation)
        if federation is None:
            refused = (unreadable.problems[0].reason, str(unreadable)) if unreadable else None
            picture = Picture(metadata["generation"], None, datetime.now(UTC), refused)
            outcome = Outcome(picture, RESTING_SECONDS, metadata["resourceVersion"])
            return self._tell(subject, before, outcome)
        rest = _seconds_to_live(federation, before)
        if rest is not None and rest <= 0:
            self._cluster.delete(FEDERATIONS, subject.namespace, subject.name, uid=subject.uid)
            return Done(None, before)
        turn = FederationTurn(self._cluster, self._settings, self._consents, memory, seen, federation)
        outcome = turn.run()
        done = self._tell(subject, before, outcome)
        if outcome.watched is not None:
            self._metrics.federations.show(outcome.watched)
        rest = _seconds_to_live(federation, done.status)
        return done if rest is None else replace(done, again_seconds=min(rest, done.again_seconds or rest))

    def tell_site(self, site: Site, federations: list[dict[str, Any]]) -> None:
        """How a site takes part in the federations that name it, in its own status."""
        before = site.raw.get("status") or {}
        status = build_site_status(site, federations, before, datetime.now(UTC))
        if status == before:
            return
        try:
            self._cluster.merge(SITES, site.namespace, site.name, {"status": status}, "status")
        except Forbidden as error:
            # A site that has let nobody in lets nobody write there either.
            log.debug("%s: %s", site, error)
        except Missing:
            return

    def forget(self, uid: str) -> None:
        memory = self._memories.pop(uid, None)
        if memory is not None:
            self._consents.forget(memory.subject)
            self._metrics.federations.forget(memory.subject.namespace, memory.subject.name)

    def _end(self, seen: Seen, memory: Memory, federation: Federation | None) -> Done:
        raw, subject = dict(seen.raw), memory.subject
        if names.FINALIZER not in (raw["metadata"].get("finalizers") or ()):
            return Done(None, {})
        secrets = secrets_of(subject, raw["metadata"], federation)
        jobs = own_jobs(
            seen.jobs,
            subject,
            homes_of(raw),
            lambda namespace: self._consents.of(subject, namespace, seen.jobs),
        )
        ending = end(self._cluster, memory, raw, federation, jobs, secrets)
        self._say(subject, ending.events, {})
        return Done(None if ending.released else ENDING_SECONDS, {})

    def _tell(self, subject: Subject, before: Mapping[str, Any], outcome: Outcome) -> Done:
        """One patch, and Events of what is new in it.

        Of two operators, and of two turns, only the one that has seen the newest status writes the next.
        """
        status = build_federation_status(outcome.picture, before)
        patch = merge_patch(before, status)
        events = [*outcome.events, *(events_between(before, status) if patch else ())]
        again_seconds = outcome.again_seconds
        if patch is not None:
            place = (FEDERATIONS, subject.namespace, subject.name)
            seen = {"resourceVersion": outcome.resource_version}
            try:
                self._cluster.merge(*place, {"metadata": seen, "status": patch}, "status")
            except Missing:
                return Done(None, before)
            except Conflicting as error:
                log.info("%s: its status is written later: %s", subject.key, error)
                patch, events, again_seconds = None, [*outcome.events], CONFLICT_SECONDS
        self._say(subject, events, outcome.sites)
        return Done(again_seconds, status if patch else before, told=patch is not None)

    def _say(self, subject: Subject, events: Iterable[Event], sites: Mapping[str, Site]) -> None:
        federation = About("SegVizFederation", subject.namespace, subject.name, subject.uid)
        for event in events:
            self._create_event(federation, event)
            site = None if event.site is None else sites.get(event.site)
            if site is not None:
                about = About("SegVizSite", site.namespace, site.name, site.raw["metadata"]["uid"])
                self._create_event(about, replace(event, message=f"{subject.key}: {event.message}"))

    def _create_event(self, about: About, event: Event) -> None:
        try:
            self._cluster.create(EVENTS, build_event(about, event))
        except ClusterError as error:
            log.info("%s/%s: no Event: %s", about.namespace, about.name, error)


def _parse(raw: Mapping[str, Any]) -> tuple[Federation | None, InvalidManifest | None]:
    try:
        found = from_server(raw)
    except InvalidManifest as error:
        return None, error
    assert isinstance(found, Federation)
    return found, None


def _seconds_to_live(federation: Federation, status: Mapping[str, Any]) -> float | None:
    """Until a federation that has ended is deleted, where spec.ttlSecondsAfterFinished says so."""
    ttl = federation.spec.ttl_seconds_after_finished
    if ttl is None:
        return None
    # With the federation the bucket's contents would go, and what may be mended with them.
    kept = (c.FAILED,) if federation.spec.deletion_policy is DeletionPolicy.DELETE else ()
    for type_ in {c.COMPLETE, c.FAILED} - {*kept}:
        found = c.condition_of(status, type_)
        if found is not None and found["status"] == "True":
            ended = datetime.fromisoformat(found["lastTransitionTime"])
            return (ended + timedelta(seconds=ttl) - datetime.now(UTC)).total_seconds()
    return None
