"""The Secrets with which remote sites are invited: each holds the join file to be sent to its site."""

from dataclasses import dataclass
from datetime import datetime

from msgspec import UNSET

from segviz_exchange.contract.join import Invitation
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.store import Store
from segviz_operator.access.handover import credentials_to_tell
from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.client import SECRETS
from segviz_operator.cluster.credentials.join_secret import build_join_secret
from segviz_operator.cluster.credentials.store_secret import Recipient
from segviz_operator.cluster.objects.hosting import Host
from segviz_operator.cluster.reconcile.secrets import Secrets
from segviz_operator.plan.workload import role_at


@dataclass(frozen=True)
class Invitations:
    secrets: Secrets
    store: Store

    def keep(self, host: Host, now: datetime) -> None:
        """Args:
        now: by the store's clock.
        """
        cluster, memory, spec = self.secrets.cluster, self.secrets.memory, self.secrets.access.spec
        name = names.join_secret_name(memory.subject, host.alias)
        told = memory.secret(cluster, host.namespace, name) is not None
        seconds = spec.credential_seconds
        credentials = credentials_to_tell(
            self.store, host.alias, lambda: self._mint(host), seconds, now, told
        )
        if credentials is None:
            return
        invitation = Invitation(
            store=spec.url,
            namespace=memory.subject.namespace,
            name=memory.subject.name,
            uid=memory.subject.uid,
            alias=host.alias,
            credentials=credentials,
            region=spec.region,
            ca=self.secrets.access.ca_pem,
            coordinator=UNSET if memory.signing is None else memory.signing.public,
        )
        role = role_at(host.spec)
        secret = build_join_secret(memory.subject, host.namespace, host.consent, role, invitation)
        memory.saw_secret(cluster.apply(SECRETS, secret))

    def _mint(self, host: Host) -> Credentials:
        return self.secrets.grant(Recipient.at(host, role_at(host.spec))).credentials
