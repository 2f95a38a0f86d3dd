"""The operator's way to a federation's bucket, and the credentials it gives to others."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from minio.credentials.providers import StaticProvider

from segviz_exchange.contract.choices import CredentialSource
from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.contract.spec import SecretRef, StoreSpec, StsSpec
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.s3 import S3Store
from segviz_exchange.stores.s3_access import shared_connections, split_url
from segviz_exchange.stores.store import Store
from segviz_operator.access.rights import AGGREGATOR, EXPORT, OPERATOR, READER, Access, site_access
from segviz_operator.access.sts import Sts, credentials_of_secret
from segviz_operator.access.web_identity import WebIdentity
from segviz_operator.cluster.api.client import CONFIG_MAPS, SECRETS, Cluster, Forbidden, Object
from segviz_operator.cluster.api.names import Subject
from segviz_operator.plan.workload import WorkloadRole

SECRET_NOT_FOUND = "SecretNotFound"
"""A Secret or ConfigMap that a manifest names is not there, or the operator may not read it."""
SECRET_INVALID = "SecretInvalid"
"""A Secret or ConfigMap that a manifest names does not hold what it should."""

NO_IDENTITY = "NoIdentity"
"""A federation wants credentials from the operator's own identity, and it has none."""

LOOK_SECONDS = 300.0
"""How long a Secret that a person keeps is not read again, unless the store refuses what it held."""


class NoCredentials(Exception):
    """A person must make or mend a Secret."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Granted:
    credentials: Credentials
    renew_at: datetime
    """Half-way to their end; of those that have none, when to look whether somebody has changed them."""


@dataclass(frozen=True)
class StoreAccess:
    subject: Subject
    spec: StoreSpec
    source: Credentials | WebIdentity
    """From which all others descend: a user's keys, or the operator's own identity."""
    ca_pem: str | None

    @property
    def token_service(self) -> Sts | WebIdentity | None:
        """None where a store gives no temporary credentials."""
        if isinstance(self.source, WebIdentity):
            return self.source
        if self.spec.credentials is not CredentialSource.ASSUME_ROLE:
            return None
        asked = self.spec.sts or StsSpec()
        endpoint = asked.endpoint or self.spec.endpoint
        role = {} if asked.role_arn is None else {"role_arn": asked.role_arn}
        return Sts(endpoint, self.source, self.spec.region, self.ca_pem, **role)

    def open(self, now: datetime) -> tuple[Store, datetime]:
        """The federation's prefix with the operator's own rights, and when to open it anew."""
        granted = self._grant(OPERATOR, "operator", now)
        credentials = granted.credentials
        provider = StaticProvider(credentials.access_key, credentials.secret_key, credentials.session_token)
        url, ca_pem = self.spec.url, self.ca_pem
        connections = shared_connections(split_url(url)[0], ca_pem)
        store = S3Store.from_url(
            url, provider, ca_pem=ca_pem, region=self.spec.region, connections=connections
        )
        return store.scoped(self.subject.prefix), granted.renew_at

    def for_role(self, role: WorkloadRole, now: datetime) -> Granted:
        """For the aggregator or the export, which run beside the federation."""
        access = AGGREGATOR if role is WorkloadRole.AGGREGATOR else EXPORT
        return self._grant(access, role.lower(), now)

    def for_reading(self, now: datetime) -> Credentials:
        """For a person who fetches a model; from a store without STS they are the Secret's own."""
        return self._grant(READER, "fetch", now).credentials

    def for_site(
        self, cluster: Cluster, alias: str, namespace: str, site: SiteSpec, evaluates: bool, now: datetime
    ) -> Granted:
        if self.token_service is not None:
            return self._grant(site_access(alias, reads_export=evaluates), alias, now)
        if site.store_secret_ref is None:
            raise NoCredentials(
                SECRET_NOT_FOUND,
                "its SegVizSite lacks spec.storeSecretRef, which credentials: ExistingSecrets needs. "
                "Its owner can add it, with keys for the site's own prefix",
            )
        return self._unending(read_secret(cluster, namespace, site.store_secret_ref), now)

    def _grant(self, access: Access, session: str, now: datetime) -> Granted:
        service = self.token_service
        if service is None:
            assert isinstance(self.source, Credentials), "an identity of its own mints"
            return self._unending(self.source, now)
        seconds = self.spec.credential_seconds
        minted = service.mint(access, self.spec.bucket, self.subject.prefix, seconds, f"segviz-{session}")
        return Granted(minted, now + timedelta(seconds=seconds / 2))

    def _unending(self, credentials: Credentials, now: datetime) -> Granted:
        return Granted(credentials, now + timedelta(seconds=LOOK_SECONDS))


def read_access(
    cluster: Cluster, subject: Subject, spec: StoreSpec, identity: WebIdentity | None = None
) -> StoreAccess:
    """Args:
        identity: the operator's own, if it has one; a person has none.

    Raises NoCredentials.
    """
    source = identity if spec.secret_ref is None else read_secret(cluster, subject.namespace, spec.secret_ref)
    if source is None:
        raise NoCredentials(
            NO_IDENTITY,
            "spec.store.credentials is WebIdentity, and the operator has no identity of its own. "
            "Set webIdentity in the values of its chart, or name a Secret in spec.store.secretRef",
        )
    ca_pem = None
    if spec.ca_bundle is not None:
        name, key = spec.ca_bundle.config_map_key_ref.name, spec.ca_bundle.config_map_key_ref.key
        found = _read(cluster, "ConfigMap", subject.namespace, name)
        ca_pem = (found.get("data") or {}).get(key)
        if not ca_pem:
            raise NoCredentials(
                SECRET_INVALID,
                f"ConfigMap {subject.namespace}/{name} has no key {key} (spec.store.caBundle). "
                "Put the CA's certificates there in PEM form, or name the right key",
            )
    return StoreAccess(subject, spec, source, ca_pem)


def read_secret(cluster: Cluster, namespace: str, ref: SecretRef) -> Credentials:
    found = _read(cluster, "Secret", namespace, ref.name)
    try:
        return credentials_of_secret(found.get("data") or {}, f"Secret {namespace}/{ref.name}", ref.entries)
    except Refusal as error:
        raise NoCredentials(SECRET_INVALID, str(error)) from error


def _read(cluster: Cluster, what: str, namespace: str, name: str) -> Object:
    kind = SECRETS if what == "Secret" else CONFIG_MAPS
    try:
        found = cluster.get(kind, namespace, name)
    except Forbidden as error:
        raise NoCredentials(
            SECRET_NOT_FOUND,
            f"the operator may not read {what} {namespace}/{name}. "
            "`segviz doctor` says which Role or RoleBinding is missing",
        ) from error
    if found is None:
        raise NoCredentials(
            SECRET_NOT_FOUND,
            f"{what} {namespace}/{name} does not exist. Create it, or correct the name in the manifest",
        )
    return found
