"""A federation's store: there, trusted, honest about conditional writes, and able to give credentials."""

from collections.abc import Iterator
from datetime import UTC, datetime

from minio.credentials.providers import StaticProvider

from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import CredentialSource
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.probe import probe
from segviz_exchange.stores.s3 import S3Store
from segviz_exchange.stores.store import Denied, Store, StoreError, Unavailable
from segviz_operator.checkup.finding import Finding, bad, good, unknown
from segviz_operator.cluster.api.client import Cluster, Forbidden
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.credentials.store_access import (
    SECRET_NOT_FOUND,
    NoCredentials,
    StoreAccess,
    read_access,
)
from segviz_operator.manifests.manifest import Federation


def check_store(cluster: Cluster, federation: Federation) -> Iterator[Finding]:
    spec = federation.spec.store
    if spec is None:
        yield bad(
            f"{federation} has no spec.store, which a cluster needs",
            "Add it: kubectl explain svf.spec.store",
        )
        return
    subject = Subject.of(federation.raw)
    if spec.secret_ref is None:
        yield unknown(
            f"cannot check the store of {federation}: it takes the operator's own identity",
            f"Ask the operator: kubectl -n {federation.namespace} describe svf {federation.name}",
        )
        return
    try:
        access = read_access(cluster, subject, spec)
    except NoCredentials as error:
        if isinstance(error.__cause__, Forbidden):
            what = str(error).partition(". ")[0].replace("the operator", "you")
            yield unknown(
                f"cannot check the store of {federation}: {what}",
                "Let somebody who may read it run this command.",
            )
        else:
            yield bad(f"the store of {federation}: {error}", _mend(federation, error))
        return
    assert spec.secret_ref is not None, "who has no identity of the operator's has a Secret"
    yield good(f"Secret {federation.namespace}/{spec.secret_ref.name} holds the store's keys")
    try:
        # With the Secret's own keys: the operator's session may create control records alone.
        probe(_open(access))
        operators, _ = access.open(datetime.now(UTC))
        operators.list(keys.CONTROLS)
    except Unavailable as error:
        yield unknown(
            f"the store does not answer from here: {error}",
            "If its address works only in the cluster, run this command in a Pod. Otherwise correct the "
            "address, the CA or the network.",
        )
        return
    except Denied as error:
        yield bad(f"the store refuses the operator's credentials: {error}", _mint_remedy(spec.credentials))
        return
    except (StoreError, Refusal) as error:
        yield bad(f"the store cannot hold a federation: {error}", f"segviz store check {spec.url}")
        return
    minted = (
        ", and its STS gives expiring credentials" if spec.credentials is CredentialSource.ASSUME_ROLE else ""
    )
    yield good(f"{spec.url} answers and refuses a second create{minted}")


def _open(access: StoreAccess) -> Store:
    parent = access.source
    assert isinstance(parent, Credentials), "a person has a Secret's keys alone"
    provider = StaticProvider(parent.access_key, parent.secret_key, parent.session_token)
    store = S3Store.from_url(access.spec.url, provider, ca_pem=access.ca_pem, region=access.spec.region)
    return store.scoped(access.subject.prefix)


def _mend(federation: Federation, error: NoCredentials) -> str:
    spec = federation.spec.store
    assert spec is not None
    assert spec.secret_ref is not None
    entries = spec.secret_ref.entries
    if error.reason == SECRET_NOT_FOUND and "Secret" in str(error):
        return (
            f"kubectl -n {federation.namespace} create secret generic {spec.secret_ref.name} "
            f"--from-file={entries.access_key}=FILE --from-file={entries.secret_key}=FILE"
        )
    return (
        f"The Secret needs {entries.access_key} and {entries.secret_key}; the ConfigMap of a CA bundle needs "
        "the key that spec.store.caBundle.configMapKeyRef names."
    )


def _mint_remedy(source: CredentialSource) -> str:
    if source is CredentialSource.ASSUME_ROLE:
        return (
            "The keys must belong to a user that may use the bucket and assume a role; "
            "a store without STS needs credentials: ExistingSecrets."
        )
    return "The keys must belong to a user that may read, write, list and delete in the bucket."
