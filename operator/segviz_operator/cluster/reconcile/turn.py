"""One turn for a federation that is not being deleted: look, decide, carry out, and tell how it stands."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import commit
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.store import Denied, Store, StoreError
from segviz_exchange.stores.timed import TimedStore
from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.client import FEDERATIONS, Cluster
from segviz_operator.cluster.credentials.store_access import NoCredentials
from segviz_operator.cluster.membership.attendance import attend
from segviz_operator.cluster.membership.consent import Consents
from segviz_operator.cluster.membership.known_sites import known_sites, remembering
from segviz_operator.cluster.membership.provenance import homes_of, own_jobs
from segviz_operator.cluster.objects.jobs import JobSeen, newest, workload_of
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.cluster.objects.pods import Waiting
from segviz_operator.cluster.reconcile.adoption import hold, without_records
from segviz_operator.cluster.reconcile.invitations import Invitations
from segviz_operator.cluster.reconcile.jobs import Jobs
from segviz_operator.cluster.reconcile.memory import Memory
from segviz_operator.cluster.reconcile.outcome import (
    RESTING_SECONDS,
    Bucket,
    NotBegun,
    Outcome,
    again_seconds,
)
from segviz_operator.cluster.reconcile.secrets import Secrets
from segviz_operator.cluster.reconcile.seen import Seen
from segviz_operator.cluster.reconcile.settings import Settings
from segviz_operator.cluster.reconcile.signed import signing_of
from segviz_operator.cluster.reconcile.steps import Situation, Steps, decide_steps
from segviz_operator.cluster.reconcile.troubles import Troubles
from segviz_operator.cluster.status import conditions as c
from segviz_operator.cluster.status.events import RETRIED, Event
from segviz_operator.cluster.status.federation_status import Picture
from segviz_operator.manifests.acceptance import accept
from segviz_operator.manifests.accepted import Accepted
from segviz_operator.manifests.manifest import Federation
from segviz_operator.manifests.past import Past
from segviz_operator.manifests.problem import InvalidManifest
from segviz_operator.plan.decide import CreateWorkload, DeleteWorkload, WriteControl
from segviz_operator.plan.workload import Workload, role_at
from segviz_operator.progress import retention
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.status import build_status
from segviz_operator.watch.samples import Watched

log = logging.getLogger(__name__)

CONSENT_SECONDS = 30.0
"""The same where it waits for a consent or a Secret, of which no watch tells."""
STORE_AWAY_SECONDS = 10.0
TURN_SECONDS = 120.0
"""After which a turn asks its store for nothing more: other federations wait for theirs."""
RETRY_LENGTH = 256
"""What is remembered of an annotation that asks for another try."""


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
        self._metadata = seen.raw["metadata"]
        self._resource_version: str = self._metadata["resourceVersion"]
        self._homes = homes_of(seen.raw)
        jobs = tuple(job for job in seen.jobs if job.uid not in memory.forgotten)

        def consent_in(namespace: str) -> Owner | None:
            return consents.of(memory.subject, namespace, jobs)

        self._attendance = attend(federation, seen.sites, consent_in)
        self._jobs = own_jobs(jobs, memory.subject, self._homes, consent_in)

    def run(self) -> Outcome:
        try:
            bucket = self._open()
            situation = self._look(bucket)
            return self._carry_out(bucket, situation, decide_steps(situation, datetime.now(UTC)))
        except NotBegun as error:
            return self._refused(error.reason, str(error), error.again_seconds)
        except NoCredentials as error:
            return self._refused(error.reason, str(error), CONSENT_SECONDS)
        except Refusal as error:
            return self._refused(c.STORE_DENIED, str(error), RESTING_SECONDS)
        except StoreError as error:
            return self._store_away(error)

    # --- look -------------------------------------------------------------------------------------

    def _open(self) -> Bucket:
        spec = self._federation.spec.store
        if spec is None:
            message = "spec.store is missing. Say where the federation's records are kept."
            raise NotBegun(c.STORE_MISSING, message, RESTING_SECONDS)
        access = self._memory.access(self._cluster, spec)
        signing = signing_of(
            self._seen.raw, self._settings.signing, lambda: self._memory.open(access, None)[0]
        )
        opened, observer = self._memory.open(access, signing)
        store = TimedStore(opened, TURN_SECONDS)
        observer.reopen(store)
        return Bucket(access, store, observer)

    def _look(self, bucket: Bucket) -> Situation:
        """Raises NotBegun."""
        records = self._memory.read(bucket.observer, max(self._oldest, self._seen.newer_than))
        begun = records.control is not None
        subject, silent_after = self._memory.subject, self._settings.silent_after
        hold(bucket, subject, self._federation.spec, records, self._attendance.remote, silent_after)
        if not begun and self._status.get("currentRound") is not None:
            raise without_records(bucket, subject)
        if not begun and not self._attendance.allows_start(self._federation):
            raise NotBegun(*self._attendance.why_not(), CONSENT_SECONDS)
        verdict = self._judge(records)
        if isinstance(verdict, InvalidManifest) and not begun:
            raise NotBegun(verdict.problems[0].reason, str(verdict), RESTING_SECONDS)
        return Situation(
            verdict,
            self._attendance,
            records,
            self._jobs,
            {job.uid: self._workload(job) for job in newest(self._jobs)},
            wants_retry=self._retry is not None and self._retry != self._status.get("lastHandledRetry"),
            writers=self._memory.writers({a: host.public_key for a, host in self._attendance.hosts.items()}),
        )

    @property
    def _status(self) -> Mapping[str, Any]:
        return self._seen.raw.get("status") or {}

    @property
    def _retry(self) -> str | None:
        """Whoever applies the same manifest for ever asks once: for another try the value must be another."""
        found: str | None = (self._metadata.get("annotations") or {}).get(names.RETRY)
        return None if found is None else found[:RETRY_LENGTH]

    @property
    def _oldest(self) -> float:
        """When the records may have been read (monotonic); an edit is judged by how things stand now."""
        edited = self._status.get("observedGeneration") != self._metadata["generation"]
        return time.monotonic() - (0.0 if edited else self._settings.poll_seconds)

    def _judge(self, records: FederationRecords) -> Accepted | InvalidManifest:
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
        there, absent = self._attendance.sites.values(), frozenset(self._attendance.absent)
        try:
            return accept(self._federation, there, past, absent)
        except InvalidManifest as error:
            return error

    def _workload(self, job: JobSeen) -> Workload:
        done = job.finished_at is not None
        end = self._memory.end_of(self._cluster, job) if done and not job.deleting else None
        patience = self._settings.stuck_after
        waiting = Waiting() if done else self._memory.waiting(self._cluster, job, patience)
        return workload_of(job, end, waiting, settled=self._memory.settled(job))

    # --- carry out --------------------------------------------------------------------------------

    def _carry_out(self, bucket: Bucket, situation: Situation, steps: Steps) -> Outcome:
        self._remember(situation.accepted)
        hosts, owner, troubles = self._attendance.hosts, Owner.of(self._seen.raw), Troubles()
        secrets = Secrets(self._cluster, self._memory, owner, bucket.access, hosts)
        jobs = Jobs(secrets, self._settings.images, steps.desired.spec, self._jobs, troubles, self._homes)
        for job in steps.retired:
            jobs.retire(job)
        self._act(bucket.store, jobs, steps)
        for job in steps.superseded:
            jobs.remove(job, "Background")
        for job in self._jobs:
            if job.finished_at is None and not job.deleting:
                with troubles.kept(job.role, job.site):
                    secrets.keep(job.role, job.site)
        if not steps.complete:
            self._invite(Invitations(secrets, bucket.store), situation.records.now, troubles)
        self._retain(bucket, situation.records)
        retried = (Event(RETRIED, f"trying again, as the annotation {names.RETRY} asks"),)
        return self._tell(bucket, situation, steps, troubles, retried if steps.retries else ())

    def _remember(self, accepted: Accepted | None) -> None:
        """Before anything is made."""
        if accepted is not None and (patch := remembering(self._metadata, accepted, self._memory.signer)):
            self._patch(patch)

    def _act(self, store: Store, jobs: Jobs, steps: Steps) -> None:
        for workload in steps.workloads:
            if workload.running and not workload.remote and workload.message:
                jobs.troubles.tell(workload.role, workload.site, workload.message)
        for action in steps.actions:
            match action:
                case WriteControl(control):
                    commit(store, keys.control(control.number), control)
                case CreateWorkload():
                    jobs.create(action)
                case DeleteWorkload():
                    jobs.delete(action)

    def _invite(self, invitations: Invitations, now: datetime, troubles: Troubles) -> None:
        """Remote sites find their next credentials in the bucket; the first ones are in a join file."""
        for alias, host in self._attendance.hosts.items():
            if host.spec.remote:
                with troubles.kept(role_at(host.spec), alias):
                    invitations.keep(host, now)

    def _retain(self, bucket: Bucket, records: FederationRecords) -> None:
        keep, observer = bucket.access.spec.retention.kept_rounds, bucket.observer
        if gone := retention.sweep(bucket.store, records, observer.entries, keep):
            observer.entries = tuple(each for each in observer.entries if each.key not in gone)

    def _patch(self, metadata: dict[str, object]) -> None:
        subject = self._memory.subject
        patched = self._cluster.merge(FEDERATIONS, subject.namespace, subject.name, {"metadata": metadata})
        self._resource_version = patched["metadata"]["resourceVersion"]

    # --- tell -------------------------------------------------------------------------------------

    def _tell(
        self,
        bucket: Bucket,
        situation: Situation,
        steps: Steps,
        troubles: Troubles,
        events: tuple[Event, ...],
    ) -> Outcome:
        records = situation.records
        if steps.write_control:
            # Under a new control, an old one's failure says nothing.
            records = self._memory.read(bucket.observer, time.monotonic())
        summary = build_status(self._federation.key, records, steps.workloads, steps.desired.paused)
        verdict = situation.verdict
        refused = None if isinstance(verdict, Accepted) else (verdict.problems[0].reason, str(verdict))
        picture = replace(
            self._blank,
            refused=refused,
            records=records,
            summary=summary,
            troubles=troubles.found,
            handled_retry=self._retry,
            stuck={each.site or each.role.lower(): each.stuck for each in steps.workloads if each.stuck},
        )
        subject, at_work = self._memory.subject, self._expirations(steps.workloads)
        now = datetime.now(UTC)
        watched = Watched(subject.namespace, subject.name, summary, records, now, steps.workloads, at_work)
        again, sites = again_seconds(summary, bucket, self._settings.poll_seconds), self._attendance.sites
        return Outcome(picture, again, self._resource_version, events, watched, sites)

    @property
    def _blank(self) -> Picture:
        return Picture(
            generation=self._metadata["generation"],
            spec=self._federation.spec,
            now=datetime.now(UTC),
            absent=self._attendance.absent,
        )

    def _refused(self, reason: str, message: str, again_seconds: float) -> Outcome:
        picture = replace(self._blank, refused=(reason, message))
        return Outcome(picture, again_seconds, self._resource_version)

    def _store_away(self, error: StoreError) -> Outcome:
        reason = c.STORE_DENIED if isinstance(error, Denied) else c.STORE_UNAVAILABLE
        self._memory.distrust_store()
        said = f"{type(error).__name__}: {error}"
        log.warning("%s: %s", self._memory.subject.key, said)
        picture = replace(self._blank, store_trouble=(reason, said))
        return Outcome(picture, STORE_AWAY_SECONDS, self._resource_version)

    def _expirations(self, workloads: Sequence[Workload]) -> dict[str, datetime]:
        """Credentials matter for as long as somebody uses them."""
        at_work = {each.site or "" for each in workloads if each.running}
        return {alias: end for alias, end in self._memory.expirations().items() if alias in at_work}
