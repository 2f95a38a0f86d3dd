"""One turn for a federation that is not being deleted: from what is seen to how it stands."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from segviz_exchange.contract.records import Control
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.store import Denied, StoreError
from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.client import FEDERATIONS, Cluster
from segviz_operator.cluster.credentials.store_access import NoCredentials
from segviz_operator.cluster.membership.attendance import attend
from segviz_operator.cluster.membership.consent import Consents
from segviz_operator.cluster.membership.known_sites import known_sites, remembering
from segviz_operator.cluster.objects.hosting import spec_hash
from segviz_operator.cluster.objects.jobs import JobSeen, newest, superseded, workload_of
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.cluster.reconcile.apply import Applier, Images
from segviz_operator.cluster.reconcile.memory import Memory
from segviz_operator.cluster.reconcile.seen import Seen
from segviz_operator.cluster.status import conditions as c
from segviz_operator.cluster.status.events import RETRIED, Event
from segviz_operator.cluster.status.federation_status import Picture
from segviz_operator.manifests.acceptance import accept
from segviz_operator.manifests.accepted import Accepted
from segviz_operator.manifests.desired import desired_of
from segviz_operator.manifests.manifest import Federation
from segviz_operator.manifests.past import Past
from segviz_operator.manifests.problem import InvalidManifest
from segviz_operator.plan.decide import (
    Action,
    CreateWorkload,
    Desired,
    WriteControl,
    decide,
    failure_of,
    is_complete,
)
from segviz_operator.plan.phase import FederationPhase
from segviz_operator.plan.workload import Workload, WorkloadRole
from segviz_operator.progress import retention
from segviz_operator.progress.observe import FederationRecords, Observer
from segviz_operator.progress.remote import remote_workloads
from segviz_operator.progress.status import FederationStatus, build_status
from segviz_operator.watch.samples import Watched

log = logging.getLogger(__name__)

RESTING_SECONDS = 60.0
"""Until a federation that waits for people is looked at again without a reason."""
CONSENT_SECONDS = 30.0
"""The same where it waits for a consent or a Secret, of which no watch tells."""
STORE_AWAY_SECONDS = 10.0


@dataclass(frozen=True)
class Settings:
    images: Images
    poll_seconds: float = 10.0
    """How often the bucket of a federation at work is read."""


@dataclass(frozen=True)
class Outcome:
    picture: Picture
    again_seconds: float | None
    events: tuple[Event, ...] = ()
    watched: Watched | None = None
    """For the metrics."""


class FederationTurn:
    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        consents: Consents,
        memory: Memory,
        seen: Seen,
        federation: Federation,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._memory = memory
        self._seen = seen
        self._federation = federation
        self._subject = memory.subject
        self._metadata = seen.raw["metadata"]
        self._jobs = tuple(job for job in seen.jobs if job.uid not in memory.forgotten)
        self._attendance = attend(
            federation,
            seen.sites,
            lambda namespace: consents.of(memory.subject, namespace, self._jobs),
        )
        self._events: list[Event] = []

    def run(self) -> Outcome:
        spec, attendance = self._federation.spec, self._attendance
        if spec.store is None:
            message = "spec.store is missing. Say where the federation's records lie."
            return self._refused((c.STORE_MISSING, message), RESTING_SECONDS)
        try:
            access = self._memory.access(self._cluster, spec.store)
            store, observer = self._memory.open(access)
            records = self._memory.read(observer, max(self._oldest, self._seen.newer_than))
            begun = records.control is not None
            if not begun and not attendance.allows_start(self._federation):
                return self._refused(attendance.why_not(), CONSENT_SECONDS)
            refusal, accepted = self._accept(records)
            if refusal is not None and not begun:
                return self._refused(refusal, RESTING_SECONDS)
            if accepted is not None:
                self._remember(accepted)
            desired = self._desired(accepted, records.control)
            owner = Owner.of(self._seen.raw)
            applier = Applier(
                self._cluster,
                self._settings.images,
                self._memory,
                owner,
                desired.spec,
                spec.store,
                access,
                store,
                attendance.hosts,
                self._jobs,
            )
            records, workloads = self._step(applier, observer, desired, records, accepted)
        except NoCredentials as error:
            return self._refused((error.reason, str(error)), CONSENT_SECONDS)
        except Refusal as error:
            return self._refused((c.STORE_DENIED, str(error)), RESTING_SECONDS)
        except StoreError as error:
            return self._store_away(error)
        summary = build_status(self._federation.key, records, workloads, desired.paused)
        picture = self._picture(refused=refusal, records=records, summary=summary, troubles=applier.troubles)
        watched = Watched(
            self._subject.namespace,
            self._subject.name,
            summary,
            records,
            datetime.now(UTC),
            workloads,
            self._expirations(workloads),
        )
        return Outcome(picture, self._again(summary, observer), tuple(self._events), watched)

    # --- what is wanted -----------------------------------------------------------------------------

    def _accept(self, records: FederationRecords) -> tuple[tuple[str, str] | None, Accepted | None]:
        delivered = {alias for alias, site in records.sites.items() if site.has_delivered}
        running = {job.site for job in self._jobs if job.site is not None and job.finished_at is None}
        first = records.first_control
        past = Past(
            self._federation.key,
            {},
            known_sites(self._metadata),
            frozenset(delivered | running),
            frozenset(first.organs if first else ()),
            records.carriers,
        )
        attendance = self._attendance
        try:
            return None, accept(
                self._federation, attendance.sites.values(), past, frozenset(attendance.absent)
            )
        except InvalidManifest as error:
            return (error.problems[0].reason, str(error)), None

    @property
    def _oldest(self) -> float:
        """When the records may have been read (monotonic); an edit is judged by how things stand now."""
        status = self._seen.raw.get("status") or {}
        edited = status.get("observedGeneration") != self._metadata["generation"]
        return time.monotonic() - (0.0 if edited else self._settings.poll_seconds)

    def _remember(self, accepted: Accepted) -> None:
        """Before anything is made."""
        if patch := remembering(self._metadata, accepted):
            place = (self._subject.namespace, self._subject.name)
            self._cluster.merge(FEDERATIONS, *place, {"metadata": patch})

    def _desired(self, accepted: Accepted | None, control: Control | None) -> Desired:
        if accepted is not None:
            return desired_of(accepted)
        # An edit that is not accepted: what was goes on, without those who take no part any more.
        assert control is not None, "nothing has begun, so there is nothing to go on with"
        absent, hosts = self._attendance.absent, self._attendance.hosts
        organs = {alias: each.organs for alias, each in control.members.items() if alias not in absent}
        paused = frozenset(alias for alias, host in hosts.items() if host.spec.suspend)
        return Desired(control.spec, organs, paused)

    # --- the step -----------------------------------------------------------------------------------

    def _step(
        self,
        applier: Applier,
        observer: Observer,
        desired: Desired,
        records: FederationRecords,
        accepted: Accepted | None,
    ) -> tuple[FederationRecords, tuple[Workload, ...]]:
        jobs = newest(self._jobs)
        retired = tuple(job for job in jobs if self._is_retired(job, accepted))
        for job in retired:
            applier.retire(job)
        ended = {job.key: job for job in retired if job.finished_at is not None}
        workloads = self._workloads([job for job in jobs if job.key not in ended], applier, records)
        observed = records.observed(workloads)
        control = records.control
        failed = control is not None and failure_of(control, observed) is not None
        if control is not None and failed and self._wants_retry:
            desired = replace(desired, retried=control.number)
        actions = [_renumbered(each, ended) for each in decide(desired, observed, datetime.now(UTC))]
        # Of an edit that is not accepted nothing begins at a site: it may say what was not agreed to.
        applier.apply(tuple(each for each in actions if accepted is not None or not _begins_at_site(each)))
        applier.sweep(superseded(self._jobs))
        applier.keep_secrets()
        if control is None or not is_complete(control, observed):
            applier.keep_invitations(records.now)
        self._retain(applier, observer, records)
        if self._wants_retry:
            self._end_retry(failed or bool(ended))
        if any(isinstance(each, WriteControl) for each in actions):
            # Under a new control, an old one's failure says nothing.
            records = self._memory.read(observer, time.monotonic())
        return records, workloads

    def _workloads(
        self, jobs: list[JobSeen], applier: Applier, records: FederationRecords
    ) -> tuple[Workload, ...]:
        found = []
        for job in jobs:
            done = job.finished_at is not None
            end = self._memory.end_of(self._cluster, job) if done and not job.deleting else None
            waiting = "" if done else self._memory.waiting(self._cluster, job)
            if waiting:
                applier.troubles[job.site or job.role.lower()] = waiting
            found.append(workload_of(job, end, waiting))
        specs = {alias: site.spec for alias, site in self._attendance.sites.items()}
        return (*found, *remote_workloads(specs, records))

    def _is_retired(self, job: JobSeen, accepted: Accepted | None) -> bool:
        """Its owner has changed what the Pod is made of; or it has failed, and a person wants another try."""
        if job.deleting or (job.finished_at is not None and not job.failed):
            return False
        host = None if job.site is None else self._attendance.hosts.get(job.site)
        changed = accepted is not None and host is not None and job.spec_hash != spec_hash(host.spec)
        return changed or (self._wants_retry and job.failed)

    @property
    def _wants_retry(self) -> bool:
        return names.RETRY in (self._metadata.get("annotations") or {})

    def _end_retry(self, begun: bool) -> None:
        """The wish is granted; a federation that goes well needs no other try."""
        patch = {"metadata": {"annotations": {names.RETRY: None}}}
        self._cluster.merge(FEDERATIONS, self._subject.namespace, self._subject.name, patch)
        if begun:
            self._events.append(Event(RETRIED, "another try, as the annotation asked for"))

    def _retain(self, applier: Applier, observer: Observer, records: FederationRecords) -> None:
        keep = applier.store_spec.retention.rounds
        if gone := retention.sweep(applier.store, records, observer.entries, keep):
            observer.entries = tuple(each for each in observer.entries if each.key not in gone)

    # --- what is told -------------------------------------------------------------------------------

    def _refused(self, refusal: tuple[str, str], again_seconds: float) -> Outcome:
        return Outcome(self._picture(refused=refusal), again_seconds)

    def _store_away(self, error: StoreError) -> Outcome:
        reason = c.STORE_DENIED if isinstance(error, Denied) else c.STORE_UNAVAILABLE
        self._memory.distrust_store()
        said = f"{type(error).__name__}: {error}"
        log.warning("%s: %s", self._subject.key, said)
        return Outcome(self._picture(store_trouble=(reason, said)), STORE_AWAY_SECONDS)

    def _picture(
        self,
        refused: tuple[str, str] | None = None,
        records: FederationRecords | None = None,
        summary: FederationStatus | None = None,
        troubles: Mapping[str, str] | None = None,
        store_trouble: tuple[str, str] | None = None,
    ) -> Picture:
        return Picture(
            generation=self._metadata["generation"],
            spec=self._federation.spec,
            now=datetime.now(UTC),
            refused=refused,
            records=records,
            summary=summary,
            absent=self._attendance.absent,
            troubles=troubles or {},
            store_trouble=store_trouble,
        )

    def _expirations(self, workloads: Sequence[Workload]) -> dict[str, datetime]:
        """Credentials matter for as long as somebody uses them."""
        at_work = {each.site or "" for each in workloads if each.running}
        return {alias: end for alias, end in self._memory.expirations().items() if alias in at_work}

    def _again(self, summary: FederationStatus, observer: Observer) -> float | None:
        match summary.phase:
            case FederationPhase.COMPLETE:
                # Only what is left to be deleted may still change.
                keeps_all = (
                    self._federation.spec.store is None or not self._federation.spec.store.retention.rounds
                )
                left = retention.blobs_in(observer.entries).updates
                return RESTING_SECONDS if left and not keeps_all else None
            case FederationPhase.FAILED | FederationPhase.SUSPENDED:
                return RESTING_SECONDS
            case _:
                return self._settings.poll_seconds


def _begins_at_site(action: Action) -> bool:
    return isinstance(action, CreateWorkload) and action.site is not None


def _renumbered(action: Action, ended: Mapping[tuple[WorkloadRole, str | None], JobSeen]) -> Action:
    """A new attempt never has the name of one that is being deleted."""
    if isinstance(action, CreateWorkload) and (before := ended.get((action.role, action.site))):
        return replace(action, attempt=before.attempt + 1)
    return action
