"""The cluster's body: observe, `plan`, apply, and one patch of the status.

What is kept between two turns can all be read back: records that never change, what a Secret's annotations
say, who has consented. Whatever is killed, the next turn goes on from the cluster and the bucket.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from segviz_exchange import logs
from segviz_exchange.errors import Refusal
from segviz_exchange.records import Control
from segviz_exchange.store import Denied, StoreError
from segviz_operator import conditions as c
from segviz_operator import names, retention
from segviz_operator.acceptance import accept
from segviz_operator.accepted import Accepted
from segviz_operator.apply import Applier, Images
from segviz_operator.attendance import Attendance, attend
from segviz_operator.cluster import EVENTS, FEDERATIONS, Cluster, ClusterError, Missing
from segviz_operator.consent import Consents
from segviz_operator.deletion import end
from segviz_operator.desired import desired_of
from segviz_operator.events import RETRIED, Event, build_event, events_between
from segviz_operator.federation_status import Picture, build_federation_status, merge_patch
from segviz_operator.hosting import spec_hash
from segviz_operator.jobs import JobSeen, newest, superseded, workload_of
from segviz_operator.manifest import Federation, Site, from_server
from segviz_operator.memory import Memory
from segviz_operator.metrics import OperatorMetrics
from segviz_operator.names import Subject
from segviz_operator.observe import FederationRecords
from segviz_operator.past import DigestedSite, Past
from segviz_operator.phase import FederationPhase
from segviz_operator.plan import (
    Action,
    CreateWorkload,
    Desired,
    WriteControl,
    failure_of,
    plan,
)
from segviz_operator.pod import Owner
from segviz_operator.problem import InvalidManifest
from segviz_operator.samples import Watched
from segviz_operator.status import FederationStatus, build_status
from segviz_operator.store_access import NoCredentials
from segviz_operator.workload import Workload, WorkloadRole

log = logging.getLogger(__name__)

RESTING_SECONDS = 60.0
"""Until a federation that waits for people is looked at again without a reason."""
STORE_AWAY_SECONDS = 10.0


@dataclass(frozen=True)
class Settings:
    images: Images
    poll_seconds: float = 10.0
    """How often the bucket of a federation at work is read."""


@dataclass(frozen=True)
class Seen:
    """What the watches show of one federation."""

    raw: Mapping[str, Any]
    jobs: tuple[JobSeen, ...]
    sites: Mapping[tuple[str, str], Site]
    """By namespace and name: those of the sites it names that there are."""
    newer_than: float
    """Records read before this moment (monotonic) may lack what a Job wrote before it ended."""


@dataclass(frozen=True)
class Turn:
    """What became of a federation."""

    status: Mapping[str, Any]
    again_seconds: float | None
    gone: bool = False


class Reconciler:
    def __init__(self, cluster: Cluster, settings: Settings, metrics: OperatorMetrics | None = None) -> None:
        self._cluster = cluster
        self.metrics = metrics or OperatorMetrics()
        self._settings = settings
        self._consents = Consents(cluster)
        self._memories: dict[str, Memory] = {}

    def reconcile(self, seen: Seen) -> Turn:
        """One turn for one federation; never two at once for the same one.

        Raises:
            ClusterError: the API server did not do it; the next turn tries again.
        """
        metadata = seen.raw["metadata"]
        subject = Subject(metadata["namespace"], metadata["name"], metadata["uid"])
        with logs.speaking_of(subject.key), self.metrics.reconciling():
            return self._reconcile(seen, subject)

    def _reconcile(self, seen: Seen, subject: Subject) -> Turn:
        metadata = seen.raw["metadata"]
        memory = self._memories.setdefault(subject.uid, Memory(subject, measured=self.metrics.measured))
        jobs = tuple(job for job in seen.jobs if job.uid not in memory.forgotten)
        before = seen.raw.get("status") or {}
        try:
            federation = _federation(seen.raw)
        except InvalidManifest as error:
            if "deletionTimestamp" in metadata:
                return self._end(seen, memory, None)
            picture = _Round(self, seen, memory, jobs, None).refused(error.problems[0].reason, str(error))
            return self._tell(subject, before, picture, RESTING_SECONDS)
        if "deletionTimestamp" in metadata:
            return self._end(seen, memory, federation)
        if (ended := _ttl_rest(federation, before)) is not None and ended <= 0:
            self._cluster.delete(FEDERATIONS, subject.namespace, subject.name, uid=subject.uid)
            return Turn(before, RESTING_SECONDS)
        picture, again = _Round(self, seen, memory, jobs, federation).run()
        turn = self._tell(subject, before, picture, again)
        rest = _ttl_rest(federation, turn.status)
        return turn if rest is None else replace(turn, again_seconds=min(rest, again or rest))

    def forget(self, uid: str) -> None:
        memory = self._memories.pop(uid, None)
        if memory is not None:
            self.metrics.federations.forget(memory.subject.namespace, memory.subject.name)
            self._consents.forget(memory.subject)

    def _end(self, seen: Seen, memory: Memory, federation: Federation | None) -> Turn:
        raw, subject = dict(seen.raw), memory.subject
        if names.FINALIZER not in (raw["metadata"].get("finalizers") or ()):
            return Turn({}, None, gone=True)
        secrets = frozenset(_secrets(subject, raw, federation))
        ending = end(self._cluster, memory, raw, federation, seen.jobs, secrets)
        self._say(subject, ending.events)
        return Turn({}, None if ending.released else 2.0, gone=ending.released)

    def _tell(
        self, subject: Subject, before: Mapping[str, Any], picture: Picture, again: float | None
    ) -> Turn:
        """One patch, and Events of what is new in it."""
        status = build_federation_status(picture, before)
        patch = merge_patch(before, status)
        if patch is not None:
            try:
                place = (FEDERATIONS, subject.namespace, subject.name)
                self._cluster.merge(*place, {"status": patch}, "status")
            except Missing:
                return Turn(status, None, gone=True)
            self._say(subject, events_between(before, status))
        return Turn(status, again)

    def _say(self, subject: Subject, events: Iterable[Event]) -> None:
        for event in events:
            try:
                self._cluster.create(EVENTS, build_event(subject, event))
            except ClusterError as error:
                log.info("%s: no Event: %s", subject.key, error)


class _Round:
    """One turn of a federation that is not being deleted."""

    def __init__(
        self,
        body: Reconciler,
        seen: Seen,
        memory: Memory,
        jobs: tuple[JobSeen, ...],
        federation: Federation | None,
    ) -> None:
        self._body = body
        self._cluster = body._cluster
        self._seen = seen
        self._memory = memory
        self._jobs = jobs
        self._maybe = federation
        self._subject = memory.subject
        self._metadata = seen.raw["metadata"]

    @property
    def _federation(self) -> Federation:
        assert self._maybe is not None, "what cannot be read is refused before"
        return self._maybe

    def run(self) -> tuple[Picture, float | None]:
        spec = self._federation.spec
        if spec.store is None:
            message = "spec.store is missing. Say where the federation's records lie."
            return self.refused(c.STORE_MISSING, message), RESTING_SECONDS
        attendance = self._attend()
        try:
            access = self._memory.access(self._cluster, spec.store)
            store, observer = self._memory.open(access)
            oldest = time.monotonic() - self._body._settings.poll_seconds
            records = self._memory.read(observer, max(oldest, self._seen.newer_than))
        except NoCredentials as error:
            return self.refused(error.reason, str(error), attendance), RESTING_SECONDS / 2
        except Refusal as error:
            return self.refused(c.STORE_DENIED, str(error), attendance), RESTING_SECONDS
        except StoreError as error:
            return self._store_away(error, attendance), STORE_AWAY_SECONDS
        begun = records.control is not None
        if not begun and not attendance.allows_start(self._federation):
            first = next(iter(attendance.absent.values()))
            message = "; ".join(each.message for each in attendance.absent.values())
            return self.refused(first.reason, message, attendance), RESTING_SECONDS / 2
        refusal, accepted = self._accept(attendance, records)
        if refusal is not None and not begun:
            return self.refused(*refusal, attendance), RESTING_SECONDS
        if accepted is not None:
            self._remember(accepted)
        desired = desired_of(accepted) if accepted is not None else _still_wanted(records.control, attendance)
        applier = Applier(
            self._cluster,
            self._body._settings.images,
            self._memory,
            self._subject,
            _owner(self._seen.raw),
            desired.spec,
            spec.store,
            access,
            store,
            attendance.hosts,
            self._jobs,
        )
        try:
            records = self._step(applier, desired, records, accepted)
        except StoreError as error:
            return self._store_away(error, attendance), STORE_AWAY_SECONDS
        summary = self._summary(records, desired)
        picture = Picture(
            generation=self._metadata["generation"],
            spec=spec,
            now=datetime.now(UTC),
            refused=refusal,
            records=records,
            summary=summary,
            absent=attendance.absent,
            troubles=applier.troubles,
        )
        return picture, self._again(summary, picture)

    # --- what is wanted -----------------------------------------------------------------------------

    def _attend(self) -> Attendance:
        spec = self._federation.spec
        return attend(
            self._federation,
            (*spec.sites, *spec.evaluation.sites),
            lambda namespace, name: self._seen.sites.get((namespace, name)),
            lambda namespace: self._body._consents.of(self._subject, namespace, self._jobs),
        )

    def _accept(
        self, attendance: Attendance, records: FederationRecords
    ) -> tuple[tuple[str, str] | None, Accepted | None]:
        delivered = {alias for alias, site in records.sites.items() if site.has_delivered}
        running = {job.site for job in self._jobs if job.site is not None and job.finished_at is None}
        first = records.first_control
        past = Past(
            self._federation.key,
            {},
            _known_sites(self._metadata),
            frozenset(delivered | running),
            frozenset(first.organs if first else ()),
        )
        try:
            absent = frozenset(attendance.absent)
            return None, accept(self._federation, attendance.sites, past, absent)
        except InvalidManifest as error:
            return (error.problems[0].reason, str(error)), None

    def _remember(self, accepted: Accepted) -> None:
        """Before anything is made: the finalizer, and what each alias stands for."""
        known = _known_sites(self._metadata)
        now = {alias: DigestedSite.of(site.key, site.spec) for alias, site in accepted.everyone.items()}
        finalizers = list(self._metadata.get("finalizers") or ())
        if names.FINALIZER in finalizers and {**known, **now} == known:
            return
        annotation = msgspec.json.encode({**known, **now}, order="deterministic").decode()
        patch = {
            "metadata": {
                "resourceVersion": self._metadata["resourceVersion"],
                "finalizers": sorted({*finalizers, names.FINALIZER}),
                "annotations": {names.KNOWN_SITES: annotation},
            }
        }
        self._cluster.merge(FEDERATIONS, self._subject.namespace, self._subject.name, patch)

    # --- the step -----------------------------------------------------------------------------------

    def _step(
        self,
        applier: Applier,
        desired: Desired,
        records: FederationRecords,
        accepted: Accepted | None,
    ) -> FederationRecords:
        jobs = list(newest(self._jobs))
        retired = self._retired(jobs, applier, records, accepted)
        for job in retired:
            applier.remove(job, "Background" if job.finished_at else "Foreground")
            if job.finished_at is not None:
                self._memory.forgotten.add(job.uid)
        ended = {job.uid for job in retired if job.finished_at is not None}
        attempts = {job.key: job.attempt for job in retired if job.finished_at is not None}
        workloads = self._workloads([job for job in jobs if job.uid not in ended], applier)
        observed = records.observed(workloads)
        failure = None if records.control is None else failure_of(records.control, observed)
        if self._wants_retry and records.control is not None and failure is not None:
            desired = replace(desired, retried=records.control.number)
        actions = [_renumbered(each, attempts) for each in plan(desired, observed, datetime.now(UTC))]
        # Of a refused edit nothing may begin at a site: its manifest may say what was not agreed to.
        held = accepted is None
        applier.apply(tuple(each for each in actions if not (held and _begins_at_site(each))))
        applier.sweep(superseded(self._jobs))
        applier.keep_secrets()
        self._retain(applier, records)
        if self._wants_retry:
            self._end_retry(failure is not None or bool(ended))
        if any(isinstance(each, WriteControl) for each in actions):
            assert self._memory._observer is not None
            return self._memory.read(self._memory._observer, time.monotonic())
        return records

    def _workloads(self, jobs: list[JobSeen], applier: Applier) -> tuple[Workload, ...]:
        found = []
        for job in jobs:
            done = job.finished_at is not None
            finish = self._memory.end_of(self._cluster, job) if done and not job.deleting else None
            waiting = "" if done else self._memory.waiting(self._cluster, job)
            if waiting:
                applier.troubles[job.site or job.role.lower()] = waiting
            found.append(workload_of(job, finish, waiting))
        found += [
            # It runs elsewhere, and is known by its records and heartbeats alone.
            Workload(role, alias, 1, message="remote")
            for alias, host in applier.hosts.items()
            if host.spec.remote
            for role in (WorkloadRole.TRAINER, WorkloadRole.EVALUATION)
        ]
        return tuple(found)

    def _retired(
        self, jobs: list[JobSeen], applier: Applier, records: FederationRecords, accepted: Accepted | None
    ) -> list[JobSeen]:
        """Jobs of sites whose owners have changed what a Pod is made of; and, where a person asks for another
        try, those that have failed."""
        found = []
        for job in jobs:
            host = None if job.site is None else applier.hosts.get(job.site)
            changed = (
                accepted is not None
                and host is not None
                and job.spec_hash != spec_hash(host.spec)
                and (job.finished_at is None or job.failed)
            )
            if not job.deleting and (
                changed or (self._wants_retry and job.finished_at is not None and job.failed)
            ):
                found.append(job)
        return found

    @property
    def _wants_retry(self) -> bool:
        return names.RETRY in (self._metadata.get("annotations") or {})

    def _end_retry(self, begun: bool) -> None:
        """The wish is granted; a federation that goes well needs no other try."""
        patch = {"metadata": {"annotations": {names.RETRY: None}}}
        self._cluster.merge(FEDERATIONS, self._subject.namespace, self._subject.name, patch)
        if begun:
            self._body._say(self._subject, [Event(RETRIED, "another try, as the annotation asked for")])

    def _retain(self, applier: Applier, records: FederationRecords) -> None:
        keep = applier.store_spec.retention.rounds
        observer = self._memory._observer
        if keep is None or observer is None or records is not self._memory.records:
            return
        blobs = retention.blobs_in(observer.entries)
        if doomed := retention.expendable(records, blobs, keep):
            retention.delete(applier.store, doomed)
            gone = set(doomed[: retention.MAX_DELETES])
            observer.entries = tuple(each for each in observer.entries if each.key not in gone)

    # --- what is told -------------------------------------------------------------------------------

    def _summary(self, records: FederationRecords, desired: Desired) -> FederationStatus:
        jobs = newest(self._jobs)
        workloads = tuple(
            workload_of(
                job,
                self._memory.end_of(self._cluster, job) if job.finished_at and not job.deleting else None,
                "",
            )
            for job in jobs
            if job.uid not in self._memory.forgotten
        )
        summary = build_status(self._federation.key, records, workloads, desired.paused)
        self._show(summary, records, workloads)
        return summary

    def _show(
        self, summary: FederationStatus, records: FederationRecords, workloads: tuple[Workload, ...]
    ) -> None:
        """For Prometheus. Credentials matter for as long as somebody uses them."""
        at_work = {each.site or "" for each in workloads if each.running}
        expire = {alias: end for alias, end in self._memory.expirations.items() if alias in at_work}
        namespace, name = self._subject.namespace, self._subject.name
        now = datetime.now(UTC)
        self._body.metrics.federations.show(
            Watched(namespace, name, summary, records, now, workloads, expire)
        )

    def refused(self, reason: str, message: str, attendance: Attendance | None = None) -> Picture:
        return Picture(
            generation=self._metadata["generation"],
            spec=self._maybe.spec if self._maybe else None,
            now=datetime.now(UTC),
            refused=(reason, message),
            absent=attendance.absent if attendance else {},
        )

    def _store_away(self, error: StoreError, attendance: Attendance) -> Picture:
        reason = c.STORE_DENIED if isinstance(error, Denied) else c.STORE_UNAVAILABLE
        self._memory.distrust_store()
        log.warning("%s: %s: %s", self._subject.key, type(error).__name__, error)
        return Picture(
            generation=self._metadata["generation"],
            spec=self._federation.spec,
            now=datetime.now(UTC),
            absent=attendance.absent,
            store_trouble=(reason, f"{type(error).__name__}: {error}"),
        )

    def _again(self, summary: FederationStatus, picture: Picture) -> float | None:
        if summary.phase in (FederationPhase.FAILED, FederationPhase.SUSPENDED):
            return RESTING_SECONDS
        if summary.phase == FederationPhase.COMPLETE:
            blobs = retention.blobs_in(self._memory._observer.entries if self._memory._observer else ())
            kept = self._federation.spec.store and self._federation.spec.store.retention.rounds
            return RESTING_SECONDS if kept and blobs.updates else None
        return self._body._settings.poll_seconds


def _federation(raw: Mapping[str, Any]) -> Federation:
    found = from_server(raw)
    assert isinstance(found, Federation)
    return found


def _owner(raw: Mapping[str, Any]) -> Owner:
    return Owner(raw["apiVersion"], raw["kind"], raw["metadata"]["name"], raw["metadata"]["uid"])


def _known_sites(metadata: Mapping[str, Any]) -> dict[str, DigestedSite]:
    text = (metadata.get("annotations") or {}).get(names.KNOWN_SITES)
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, DigestedSite])
    except msgspec.DecodeError:
        log.warning(
            "%s/%s: its annotation %s is damaged, and is written anew", *_place(metadata), names.KNOWN_SITES
        )
        return {}


def _place(metadata: Mapping[str, Any]) -> tuple[str, str]:
    return metadata["namespace"], metadata["name"]


def _secrets(
    subject: Subject, raw: Mapping[str, Any], federation: Federation | None
) -> list[tuple[str, str]]:
    """Namespace and name of every Secret that the operator may have made for a federation."""
    places = {alias: site.key.partition("/")[0] for alias, site in _known_sites(raw["metadata"]).items()}
    if federation is not None:
        spec = federation.spec
        members = (*spec.sites, *spec.evaluation.sites)
        places |= {member.alias: member.site_ref.namespace for member in members}
    found = [
        (subject.namespace, names.secret_name(subject, None, role))
        for role in (WorkloadRole.AGGREGATOR, WorkloadRole.EXPORT)
    ]
    for alias, namespace in places.items():
        found.append((namespace, names.secret_name(subject, alias, WorkloadRole.TRAINER)))
        found.append((namespace, names.join_secret_name(subject, alias)))
    return found


def _still_wanted(control: Control | None, attendance: Attendance) -> Desired:
    """What was accepted last, without those who take no part any more."""
    assert control is not None, "nothing has begun, so there is nothing to go on with"
    organs = {
        alias: member.organs for alias, member in control.members.items() if alias not in attendance.absent
    }
    paused = frozenset(alias for alias, host in attendance.hosts.items() if host.spec.suspend)
    return Desired(control.spec, organs, paused)


def _begins_at_site(action: Action) -> bool:
    return isinstance(action, CreateWorkload) and action.site is not None


def _renumbered(action: Action, attempts: Mapping[Any, int]) -> Action:
    """A new attempt never has the name of one that is being deleted."""
    if isinstance(action, CreateWorkload) and (action.role, action.site) in attempts:
        return replace(action, attempt=action.attempt + attempts[action.role, action.site])
    return action


def _ttl_rest(federation: Federation, status: Mapping[str, Any]) -> float | None:
    """Seconds until a federation that has ended is deleted, where spec.ttlSecondsAfterFinished says so."""
    ttl = federation.spec.ttl_seconds_after_finished
    if ttl is None:
        return None
    for type_ in (c.COMPLETE, c.FAILED):
        found = c.condition_of(status, type_)
        if found is not None and found["status"] == "True":
            ended = datetime.fromisoformat(found["lastTransitionTime"])
            return (ended + timedelta(seconds=ttl) - datetime.now(UTC)).total_seconds()
    return None
