"""Remote sites of a cluster's federation: credentials in the bucket, a join file in a Secret."""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from segviz_exchange.credentials import Credentials
from segviz_exchange.join import Invitation, encode_invitation
from segviz_exchange.spec import Role, SiteSpec
from segviz_exchange.store import Store
from segviz_operator import names
from segviz_operator.cluster import SECRETS, Cluster
from segviz_operator.minting import newest_remote
from segviz_operator.observe import FederationRecords
from segviz_operator.pod import Owner
from segviz_operator.remote import renew
from segviz_operator.store_access import StoreAccess
from segviz_operator.workload import WorkloadRole

JOIN_FILE = "join.json"
"""The Secret's key. `kubectl get secret NAME -o jsonpath='{.data.join\\.json}' | base64 -d > SITE.json`"""


@dataclass(frozen=True)
class RemoteSites:
    """Of one federation, in one turn."""

    cluster: Cluster
    owner: Owner
    """The federation: its join Secrets go with it."""
    access: StoreAccess
    store: Store

    def keep(self, alias: str, namespace: str, site: SiteSpec, records: FederationRecords) -> None:
        """The site finds credentials in the bucket, and the coordinator a join file in a Secret.

        Raises:
            NoCredentials, Forbidden: as for a site of this cluster.
        """
        role = WorkloadRole.EVALUATION if site.role is Role.EVALUATION else WorkloadRole.TRAINER
        fresh = renew(
            self.store,
            alias,
            lambda: self._mint(alias, namespace, site),
            self.access.spec.credential_seconds,
            records.now,
        )
        home = self.access.subject.namespace
        if fresh is None:
            if (
                self.cluster.get(SECRETS, home, names.join_secret_name(self.access.subject, alias))
                is not None
            ):
                return
            fresh = newest_remote(self.store, alias)[1]
        if fresh is not None:
            self.cluster.apply(SECRETS, self._secret(alias, role, fresh))

    def _mint(self, alias: str, namespace: str, site: SiteSpec) -> Credentials:
        evaluates = site.role is Role.EVALUATION
        now = datetime.now(UTC)
        return self.access.for_site(self.cluster, alias, namespace, site, evaluates, now).credentials

    def _secret(self, alias: str, role: WorkloadRole, credentials: Credentials) -> dict[str, Any]:
        subject, spec = self.access.subject, self.access.spec
        invitation = Invitation(
            store=spec.url,
            namespace=subject.namespace,
            name=subject.name,
            uid=subject.uid,
            alias=alias,
            credentials=credentials,
            region=spec.region,
            ca=self.access.ca_pem,
        )
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": names.join_secret_name(subject, alias),
                "namespace": subject.namespace,
                "labels": names.role_labels(subject, role, alias),
                "ownerReferences": [self.owner.reference()],
            },
            "type": "Opaque",
            "data": {JOIN_FILE: base64.b64encode(encode_invitation(invitation)).decode()},
        }
