"""Doing what `decide` says: each action once, and again without harm. 404 and 409 mean that it is done."""

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from segviz_exchange.contract import keys
from segviz_exchange.contract.join import Invitation
from segviz_exchange.contract.ledger import commit
from segviz_exchange.contract.site_spec import SiteSpec, TrainerPod
from segviz_exchange.contract.spec import FederationSpec, StoreSpec
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.store import Store
from segviz_operator.access.handover import newest_remote, renew
from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.client import (
    JOBS,
    SECRETS,
    Cluster,
    Conflicting,
    Forbidden,
    Invalid,
    Missing,
)
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.credentials.join_secret import build_join_secret
from segviz_operator.cluster.credentials.store_access import Granted, NoCredentials, StoreAccess
from segviz_operator.cluster.credentials.store_secret import build_store_secret, content_hash
from segviz_operator.cluster.objects.federation_job import build_federation_job
from segviz_operator.cluster.objects.hosting import Host
from segviz_operator.cluster.objects.jobs import JobSeen
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.cluster.objects.site_job import build_site_job
from segviz_operator.cluster.reconcile.memory import Memory
from segviz_operator.plan.decide import Action, CreateWorkload, DeleteWorkload, WriteControl
from segviz_operator.plan.workload import WorkloadRole, role_at

log = logging.getLogger(__name__)


class Images(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator's own settings say of the Pods beside it, in the words of a site's manifest."""

    aggregator: TrainerPod
    export: TrainerPod


@dataclass
class Applier:
    """One turn's hands."""

    cluster: Cluster
    images: Images
    memory: Memory
    owner: Owner
    """The federation, of what runs in its own namespace."""
    spec: FederationSpec
    store_spec: StoreSpec
    access: StoreAccess
    store: Store
    hosts: Mapping[str, Host]
    jobs: tuple[JobSeen, ...]
    troubles: dict[str, str] = field(default_factory=dict)
    """By alias or role: why something could not be made."""

    @property
    def subject(self) -> Subject:
        return self.memory.subject

    def apply(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case WriteControl(control):
                    commit(self.store, keys.control(control.number), control)
                case CreateWorkload():
                    self._create(action)
                case DeleteWorkload():
                    self._delete(action)

    def sweep(self, superseded: tuple[JobSeen, ...]) -> None:
        """Attempts that a newer one has taken the place of."""
        for job in superseded:
            self.remove(job, "Background")

    def retire(self, job: JobSeen) -> None:
        """It makes way for an attempt that has nothing to do with it."""
        if job.finished_at is None:
            self.remove(job, "Foreground")
        else:
            self.remove(job, "Background")
            # The watch may show it for a while yet, and its failure must not count again.
            self.memory.forgotten.add(job.uid)

    def remove(self, job: JobSeen, propagation: str) -> None:
        try:
            self.cluster.delete(JOBS, job.namespace, job.name, propagation, job.uid)
        except Forbidden as error:
            # Without the site's consent its Jobs are the garbage collector's.
            log.info("%s: %s", self.subject.key, error)

    def keep_secrets(self) -> None:
        """Renew what Pods at work have mounted, before it expires."""
        for job in self.jobs:
            if job.finished_at is None and not job.deleting:
                keep = functools.partial(self._keep_secret, job.role, job.site)
                self._attempt(job.role, job.site, keep)

    def keep_invitations(self, now: datetime) -> None:
        """Remote sites find their next credentials in the bucket; the first ones are in a join file.

        Args:
            now: by the store's clock.
        """
        for alias, host in self.hosts.items():
            if host.spec.remote:
                role = role_at(host.spec)
                self._attempt(role, alias, functools.partial(self._invite, alias, host, role, now))

    # --- workloads --------------------------------------------------------------------------------

    def _create(self, action: CreateWorkload) -> None:
        def make() -> None:
            self._keep_secret(action.role, action.site, begins=True)
            self.cluster.apply(JOBS, self._job(action))

        self._attempt(action.role, action.site, make)

    def _attempt(self, role: WorkloadRole, alias: str | None, act: Callable[[], None]) -> None:
        """What fails at one site must not keep the others waiting."""
        who = alias or role.lower()
        try:
            act()
        except (Forbidden, Invalid, Missing, Conflicting) as error:
            self.troubles[who] = str(error)
        except NoCredentials as error:
            self.troubles[who] = f"{error.reason}: {error}"

    def _job(self, action: CreateWorkload) -> dict[str, Any]:
        threads = self.spec.training.threads
        if action.site is not None:
            host = self.hosts[action.site]
            return build_site_job(self.subject, action, self.store_spec, host, threads)
        aggregates = action.role is WorkloadRole.AGGREGATOR
        pod = self.images.aggregator if aggregates else self.images.export
        return build_federation_job(self.subject, action, self.store_spec, self.owner, pod, threads)

    def _delete(self, action: DeleteWorkload) -> None:
        for job in self.jobs:
            if (job.role, job.site, job.attempt) == (action.role, action.site, action.attempt):
                # In the foreground: the Job stays to be seen until its Pod is gone, and nothing new begins.
                if not job.deleting:
                    self.remove(job, "Foreground")
                if job.site is not None and job.site not in self.hosts:
                    self._drop_secret(job.namespace, names.secret_name(self.subject, job.site, job.role))

    def _drop_secret(self, namespace: str, name: str) -> None:
        self.memory.secrets.pop((namespace, name), None)
        try:
            self.cluster.delete(SECRETS, namespace, name)
        except Forbidden as error:
            log.info("%s: %s", self.subject.key, error)

    # --- Secrets ----------------------------------------------------------------------------------

    def _keep_secret(self, role: WorkloadRole, alias: str | None, begins: bool = False) -> None:
        """The Pod's Secret is there, holds what it should, and is not half-way to its end.

        Where a Pod begins, credentials that never expire are read anew: the last attempt may have failed
        for old ones.
        """
        host = None if alias is None else self.hosts.get(alias)
        if alias is not None and host is None:
            return
        namespace = self.subject.namespace if host is None else host.namespace
        site = None if host is None else host.spec
        name = names.secret_name(self.subject, alias, role)
        wanted, now = content_hash(site, self.access.ca_pem), datetime.now(UTC)
        known = self.memory.secret(self.cluster, namespace, name)
        anew = begins and known is not None and known.expires_at is None
        if known is not None and not anew and not known.is_due(now, wanted):
            return
        granted = self._grant(role, alias, host, site, now)
        owner = self.owner if host is None else host.consent
        secret = build_store_secret(
            self.subject,
            namespace,
            owner,
            role,
            alias,
            granted.credentials,
            granted.renew_at,
            site,
            self.access.ca_pem,
        )
        self.memory.saw_secret(self.cluster.apply(SECRETS, secret))

    def _invite(self, alias: str, host: Host, role: WorkloadRole, now: datetime) -> None:
        seconds = self.store_spec.credential_seconds
        mint = functools.partial(self._mint, role, alias, host)
        fresh = renew(self.store, alias, mint, seconds, now)
        name = names.join_secret_name(self.subject, alias)
        if fresh is None and self.memory.secret(self.cluster, host.namespace, name) is not None:
            return
        credentials = fresh or newest_remote(self.store, alias)[1]
        if credentials is None:
            return
        invitation = Invitation(
            store=self.store_spec.url,
            namespace=self.subject.namespace,
            name=self.subject.name,
            uid=self.subject.uid,
            alias=alias,
            credentials=credentials,
            region=self.store_spec.region,
            ca=self.access.ca_pem,
        )
        secret = build_join_secret(self.subject, host.namespace, host.consent, role, invitation)
        self.memory.saw_secret(self.cluster.apply(SECRETS, secret))

    def _mint(self, role: WorkloadRole, alias: str, host: Host) -> Credentials:
        return self._grant(role, alias, host, host.spec, datetime.now(UTC)).credentials

    def _grant(
        self, role: WorkloadRole, alias: str | None, host: Host | None, site: SiteSpec | None, now: datetime
    ) -> Granted:
        if alias is None or host is None or site is None:
            return self.access.for_role(role, now)
        evaluates = role is WorkloadRole.EVALUATION
        return self.access.for_site(self.cluster, alias, host.namespace, site, evaluates, now)
