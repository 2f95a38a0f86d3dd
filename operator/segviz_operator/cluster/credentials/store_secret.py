"""The Secret that a Pod mounts: its credentials for the store, and what it reads about its site."""

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.stores.certified import Party
from segviz_exchange.stores.credentials import encode_credentials
from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.credentials.store_access import Granted
from segviz_operator.cluster.objects.hosting import Host, spec_digest
from segviz_operator.cluster.objects.pod import (
    CA_FILE,
    CREDENTIALS_FILE,
    PARTY_FILE,
    SITE_FILE,
    Owner,
)
from segviz_operator.plan.workload import WorkloadRole


@dataclass(frozen=True)
class Recipient:
    """Whose Pod mounts it, and where."""

    role: WorkloadRole
    namespace: str
    owner: Owner
    host: Host | None = None
    """None for what runs beside the federation."""

    @classmethod
    def at(cls, host: Host, role: WorkloadRole) -> "Recipient":
        return cls(role, host.namespace, host.consent, host)

    @property
    def alias(self) -> str | None:
        return None if self.host is None else self.host.alias

    @property
    def site(self) -> SiteSpec | None:
        return None if self.host is None else self.host.spec


@dataclass(frozen=True)
class SecretSeen:
    """What a Secret's annotations say, and all that is remembered of it: never what is in it."""

    renew_at: datetime | None
    """When to look again, lest its credentials expire or be those of yesterday."""
    content_digest: str
    alias: str = ""
    expires_at: datetime | None = None

    def is_due(self, now: datetime, wanted_digest: str) -> bool:
        return self.content_digest != wanted_digest or self.renew_at is None or now >= self.renew_at


def secret_seen(secret: dict[str, Any]) -> SecretSeen:
    annotations = secret["metadata"].get("annotations") or {}
    labels = secret["metadata"].get("labels") or {}
    return SecretSeen(
        _moment(annotations.get(names.RENEW_AT)),
        annotations.get(names.CONTENT_DIGEST, ""),
        labels.get(names.SITE, ""),
        _moment(annotations.get(names.EXPIRES_AT)),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def content_digest(site: SiteSpec | None, ca_pem: str | None, party: Party | None = None) -> str:
    signed = () if party is None else (_digest_of(f"{party.federation}{party.coordinator}"),)
    authorities = (_digest_of(ca_pem),) if ca_pem else ()
    return "-".join((spec_digest(site) if site else "none", *authorities, *signed))


def _digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def build_store_secret(
    subject: Subject,
    recipient: Recipient,
    granted: Granted,
    ca_pem: str | None,
    party: Party | None = None,
) -> dict[str, Any]:
    credentials, site = granted.credentials, recipient.site
    files = {CREDENTIALS_FILE: encode_credentials(credentials)}
    if site is not None:
        files[SITE_FILE] = msgspec.json.format(msgspec.json.encode(site)) + b"\n"
    if ca_pem is not None:
        files[CA_FILE] = ca_pem.encode()
    if party is not None:
        files[PARTY_FILE] = msgspec.json.encode(party) + b"\n"
    annotations = {
        names.CONTENT_DIGEST: content_digest(site, ca_pem, party),
        names.RENEW_AT: granted.renew_at.isoformat(timespec="seconds"),
    }
    if credentials.expiration is not None:
        annotations[names.EXPIRES_AT] = credentials.expiration.isoformat(timespec="seconds")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.secret_name(subject, recipient.alias, recipient.role),
            "namespace": recipient.namespace,
            "labels": names.role_labels(subject, recipient.role, recipient.alias),
            "annotations": annotations,
            "ownerReferences": [recipient.owner.reference()],
        },
        "type": "Opaque",
        "data": {name: base64.b64encode(data).decode() for name, data in files.items()},
    }
