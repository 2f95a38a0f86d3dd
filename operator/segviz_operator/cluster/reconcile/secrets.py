"""The Secrets that Pods mount: there before a Pod begins, and renewed for as long as it is at work."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from segviz_exchange.stores.certified import Party
from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.client import SECRETS, Cluster, Forbidden
from segviz_operator.cluster.credentials.store_access import Granted, StoreAccess
from segviz_operator.cluster.credentials.store_secret import (
    Recipient,
    SecretSeen,
    build_store_secret,
    content_digest,
)
from segviz_operator.cluster.objects.hosting import Host
from segviz_operator.cluster.objects.jobs import JobSeen
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.cluster.reconcile.memory import Memory
from segviz_operator.plan.workload import WorkloadRole

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Secrets:
    cluster: Cluster
    memory: Memory
    owner: Owner
    """The federation, of what runs in its own namespace."""
    access: StoreAccess
    hosts: Mapping[str, Host]

    def prepare(self, role: WorkloadRole, alias: str | None) -> None:
        """For a Pod that is about to begin. Credentials that never expire are read anew: the last attempt
        may have failed for old ones."""
        recipient = self._recipient(role, alias)
        if recipient is not None:
            known = self._known(recipient)
            if known is None or known.expires_at is None or self._is_due(known, recipient):
                self._write(recipient)

    def keep(self, role: WorkloadRole, alias: str | None) -> None:
        """For a Pod at work: its Secret is there, holds what it should, and is not half-way to its end."""
        recipient = self._recipient(role, alias)
        if recipient is not None:
            known = self._known(recipient)
            if known is None or self._is_due(known, recipient):
                self._write(recipient)

    def drop(self, job: JobSeen) -> None:
        """Its site takes no part any more."""
        place = (job.namespace, names.secret_name(self.memory.subject, job.site, job.role))
        self.memory.secrets.pop(place, None)
        try:
            self.cluster.delete(SECRETS, *place)
        except Forbidden as error:
            log.info("%s: %s", self.memory.subject.key, error)

    def grant(self, recipient: Recipient) -> Granted:
        now, host = datetime.now(UTC), recipient.host
        if host is None:
            return self.access.for_role(recipient.role, now)
        evaluates = recipient.role is WorkloadRole.EVALUATION
        return self.access.for_site(self.cluster, host.alias, host.namespace, host.spec, evaluates, now)

    def _recipient(self, role: WorkloadRole, alias: str | None) -> Recipient | None:
        """None for a site that takes no part."""
        if alias is None:
            return Recipient(role, self.memory.subject.namespace, self.owner)
        host = self.hosts.get(alias)
        return None if host is None else Recipient.at(host, role)

    def _known(self, recipient: Recipient) -> SecretSeen | None:
        name = names.secret_name(self.memory.subject, recipient.alias, recipient.role)
        return self.memory.secret(self.cluster, recipient.namespace, name)

    def _is_due(self, known: SecretSeen, recipient: Recipient) -> bool:
        return known.is_due(
            datetime.now(UTC), content_digest(recipient.site, self.access.ca_pem, self._party(recipient))
        )

    def _write(self, recipient: Recipient) -> None:
        granted = self.grant(recipient)
        party = self._party(recipient)
        secret = build_store_secret(self.memory.subject, recipient, granted, self.access.ca_pem, party)
        self.memory.saw_secret(self.cluster.apply(SECRETS, secret))

    def _party(self, recipient: Recipient) -> Party | None:
        signing = self.memory.signing
        if signing is None:
            return None
        return signing.party(self.memory.subject.prefix, aggregates=recipient.host is None)
