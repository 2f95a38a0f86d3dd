"""Names, labels and annotations of what the operator makes: all that a restart needs to find it again."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segviz_exchange.contract import keys
from segviz_operator.plan.workload import WorkloadRole

MANAGER = "segviz-operator"
"""Field manager, and the value of app.kubernetes.io/managed-by."""
FINALIZER = "segviz.dev/federation"

MANAGED_BY = "app.kubernetes.io/managed-by"
FEDERATION_NAMESPACE = "segviz.dev/federation-namespace"
FEDERATION_NAME = "segviz.dev/federation"
FEDERATION_UID = "segviz.dev/federation-uid"
ROLE = "segviz.dev/role"
SITE = "segviz.dev/site"
ATTEMPT = "segviz.dev/attempt"

FAILURES = "segviz.dev/failures"
MILESTONE = "segviz.dev/milestone"
SPEC_DIGEST = "segviz.dev/spec-digest"
"""On a Job, of what a site's owner says about its Pod; where it changes, the Pod starts anew."""
STORE_DIGEST = "segviz.dev/store-digest"
"""On a Job, of the store's address as its Pod has it; where it changes, the Pod starts anew."""
CONTENT_DIGEST = "segviz.dev/content-digest"
"""On a Secret, of what it says beside the credentials: the site's manifest and the store's authorities."""
RENEW_AT = "segviz.dev/renew-at"
"""When the credentials in a Secret are half-way to their end."""
EXPIRES_AT = "segviz.dev/expires-at"
KNOWN_SITES = "segviz.dev/known-sites"
"""On a federation: which site each alias has stood for, and digests of what must not change there."""
SIGNED = "segviz.dev/signed"
"""On a federation whose records are signed: the public key of the operator that signs its controls."""
RETRY = "segviz.dev/retry"
"""On a federation: a person wants another try. Its status says which value was handled."""

QUEUE = "kueue.x-k8s.io/queue-name"

_LABEL_LENGTH = 63
_ALIAS_LENGTH = 24


@dataclass(frozen=True)
class Subject:
    """A federation in a cluster."""

    namespace: str
    name: str
    uid: str
    adopted: str | None = None
    """UID of the earlier federation of this name whose records it goes on with."""

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Subject":
        metadata, store = raw["metadata"], (raw.get("spec") or {}).get("store") or {}
        return cls(metadata["namespace"], metadata["name"], metadata["uid"], store.get("adoptUid"))

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def prefix(self) -> str:
        """Where its records lie in the bucket."""
        return keys.federation_prefix(self.namespace, self.name, self.records_uid)

    @property
    def records_uid(self) -> str:
        """By which its records, and a site's state, are found."""
        return self.adopted or self.uid

    @property
    def labels(self) -> dict[str, str]:
        return {
            MANAGED_BY: MANAGER,
            FEDERATION_NAMESPACE: self.namespace,
            FEDERATION_NAME: label_value(self.name),
            FEDERATION_UID: self.uid,
        }


def role_labels(subject: Subject, role: WorkloadRole, alias: str | None) -> dict[str, str]:
    site = {} if alias is None else {SITE: alias}
    return {**subject.labels, ROLE: role.lower(), **site}


def job_name(subject: Subject, role: WorkloadRole, alias: str | None, attempt: int) -> str:
    return f"{_base(subject, role.lower(), alias)}-{attempt}"


def secret_name(subject: Subject, alias: str | None, role: WorkloadRole) -> str:
    """One per site; the aggregator and the export have one each."""
    return _base(subject, "store" if alias is not None else f"store-{role.lower()}", alias)


def join_secret_name(subject: Subject, alias: str) -> str:
    return _base(subject, "join", alias)


def consent_name(namespace: str, name: str) -> str:
    """Of the RoleBinding by which a site lets a federation in."""
    return f"segviz:consent:{namespace}:{name}"


def label_value(name: str) -> str:
    """A name of an object may be longer than a label's value."""
    return name if len(name) <= _LABEL_LENGTH else f"{name[:50].rstrip('-.')}-{_digest(name)}"


def _base(subject: Subject, what: str, alias: str | None) -> str:
    # The digest keeps two federations of one name apart in a namespace where both are at work.
    parts = (subject.namespace, subject.name, subject.uid, alias or "")
    site = "" if alias is None else f"-{alias[:_ALIAS_LENGTH].rstrip('-')}"
    return f"segviz-{what}{site}-{_digest('/'.join(parts))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
