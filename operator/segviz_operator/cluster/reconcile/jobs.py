"""The Jobs that `decide` asks for: made once, and again without harm. 404 and 409 mean that it is done."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segviz_exchange.contract.spec import FederationSpec, StoreSpec
from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.client import JOBS, Conflicting, Forbidden
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.membership.provenance import Homes, own_jobs
from segviz_operator.cluster.objects.federation_job import build_federation_job
from segviz_operator.cluster.objects.hosting import Host
from segviz_operator.cluster.objects.jobs import JobSeen, job_seen
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.cluster.objects.site_job import build_site_job
from segviz_operator.cluster.reconcile.secrets import Secrets
from segviz_operator.cluster.reconcile.settings import Images
from segviz_operator.cluster.reconcile.troubles import Troubles
from segviz_operator.plan.decide import CreateWorkload, DeleteWorkload
from segviz_operator.plan.workload import WorkloadRole

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Jobs:
    secrets: Secrets
    images: Images
    spec: FederationSpec
    """As it is in force."""
    seen: tuple[JobSeen, ...]
    troubles: Troubles
    homes: Homes

    def create(self, action: CreateWorkload) -> None:
        with self.troubles.kept(action.role, action.site):
            self.secrets.prepare(action.role, action.site)
            job = self._build(action)
            if not self._has_news_of(action, job["metadata"]["namespace"]):
                self._create(job)

    def _create(self, job: dict[str, Any]) -> None:
        try:
            self.secrets.cluster.create(JOBS, job)
        except Conflicting as error:
            # An earlier self or another operator was faster, and what it said of earlier attempts stays.
            log.info("%s: %s", self._subject.key, error)

    def _has_news_of(self, action: CreateWorkload, namespace: str) -> bool:
        """Whether the role has a Job that the watch has not shown yet: what was decided is out of date."""
        labels = names.role_labels(self._subject, action.role, action.site)
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        known = {job.uid for job in self.seen} | self.secrets.memory.forgotten
        found = self.secrets.cluster.list(JOBS, namespace, labelSelector=selector)
        there = tuple(job for raw in found if (job := job_seen(raw)) is not None)
        ours = own_jobs(there, self._subject, self.homes, self._consent_in)
        return any(job.uid not in known and not job.deleting for job in ours)

    def _consent_in(self, namespace: str) -> Owner | None:
        return next((each.consent for each in self._hosts.values() if each.namespace == namespace), None)

    def delete(self, action: DeleteWorkload) -> None:
        for job in self.seen:
            if (job.role, job.site, job.attempt) == (action.role, action.site, action.attempt):
                # In the foreground: the Job stays to be seen until its Pod is gone, and nothing new begins.
                if not job.deleting:
                    self.remove(job, "Foreground")
                if job.site is not None and job.site not in self._hosts:
                    self.secrets.drop(job)

    def retire(self, job: JobSeen) -> None:
        """It makes way for an attempt that has nothing to do with it."""
        if job.finished_at is None:
            self.remove(job, "Foreground")
        else:
            self.remove(job, "Background")
            # The watch may show it for a while yet, and its failure must not count again.
            self.secrets.memory.forgotten.add(job.uid)

    def remove(self, job: JobSeen, propagation: str) -> None:
        try:
            self.secrets.cluster.delete(JOBS, job.namespace, job.name, propagation, job.uid)
        except Forbidden as error:
            # Without the site's consent its Jobs are the garbage collector's.
            log.info("%s: %s", self._subject.key, error)

    @property
    def _subject(self) -> Subject:
        return self.secrets.memory.subject

    @property
    def _hosts(self) -> Mapping[str, Host]:
        return self.secrets.hosts

    @property
    def _store(self) -> StoreSpec:
        return self.secrets.access.spec

    def _build(self, action: CreateWorkload) -> dict[str, Any]:
        threads, signed = self.spec.training.threads, self.secrets.memory.signing is not None
        if action.site is not None:
            host = self._hosts[action.site]
            return build_site_job(self._subject, action, self._store, host, threads, signed)
        aggregates = action.role is WorkloadRole.AGGREGATOR
        pod = self.images.aggregator if aggregates else self.images.export
        owner = self.secrets.owner
        return build_federation_job(self._subject, action, self._store, owner, pod, threads, signed)
