"""A site as its own namespace shows it: consent, claims, account, and what the namespace enforces."""

from collections.abc import Iterator
from dataclasses import dataclass

from segviz_operator.checkup.finding import Finding, bad, good, unknown
from segviz_operator.checkup.pods import check_pods
from segviz_operator.checkup.rights import AT_A_REMOTE_SITE, AT_A_SITE, Account, check_rights
from segviz_operator.cluster.api.client import ROLE_BINDINGS, SECRETS, SITES, Cluster, Forbidden, Kind, Object
from segviz_operator.cluster.api.names import consent_name
from segviz_operator.manifests.manifest import Site, from_server

_CLAIMS = Kind("api/v1", "persistentvolumeclaims")
_ACCOUNTS = Kind("api/v1", "serviceaccounts")
_NAMESPACES = Kind("api/v1", "namespaces")
_LEVEL = "pod-security.kubernetes.io/enforce"


@dataclass(frozen=True)
class SiteName:
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def check_site(
    cluster: Cluster, account: Account, where: SiteName, federations: tuple[str, ...] = ()
) -> Iterator[Finding]:
    """Args:
    federations: the namespace/name of each that wants the site; all that it allows, if none are given.
    """
    try:
        raw = cluster.get(SITES, where.namespace, where.name)
    except Forbidden:
        yield unknown(
            f"cannot check site {where}: you may not read it",
            f"Let the site's owner run: segviz doctor --site {where}",
        )
        return
    if raw is None:
        yield bad(
            f"SegVizSite {where} does not exist",
            f"Its owner: helm install {where.name} charts/segviz-site -n {where.namespace} -f site.yaml",
        )
        return
    site = from_server(raw)
    assert isinstance(site, Site)
    wanted = federations or tuple(each.key for each in site.spec.allowed_federations)
    if not wanted:
        yield bad(
            f"site {where} allows no federation",
            f"helm upgrade {where.name} charts/segviz-site -n {where.namespace} --reuse-values "
            "--set 'allowedFederations={NAMESPACE/NAME}'",
        )
    for federation in wanted:
        yield from _check_consent(cluster, account, site, federation)
    if site.spec.suspend:
        yield bad(
            f"site {where} is suspended by its owner", "Its owner: set suspend=false to let it continue."
        )
    if site.spec.store_secret_ref is not None:
        yield from _check_object(cluster, SECRETS, where, "Secret", site.spec.store_secret_ref.name)
    if not site.spec.remote:
        yield from _check_pod(cluster, where, site)
        for federation in wanted:
            yield from check_pods(cluster, where.namespace, federation, of_sites=True)


def _check_consent(cluster: Cluster, account: Account, site: Site, federation: str) -> Iterator[Finding]:
    where = SiteName(site.namespace, site.name)
    name = consent_name(*federation.split("/", 1))
    upgrade = (
        f"Its owner: helm upgrade {site.name} charts/segviz-site -n {site.namespace}, "
        f"with {federation} in allowedFederations"
    )
    if not site.allows(federation):
        yield bad(f"site {where} does not allow {federation}", upgrade)
        return
    try:
        binding = cluster.get(ROLE_BINDINGS, site.namespace, name)
    except Forbidden:
        yield unknown(
            f"cannot tell whether {where} consents to {federation}: you may not read its RoleBinding {name}",
            f"Let the site's owner run: segviz doctor --site {where}",
        )
        return
    if binding is None:
        yield bad(
            f"site {where} allows {federation}, but has no RoleBinding {name}: consent is withdrawn", upgrade
        )
        return
    if not _binds(binding, account):
        bound = ", ".join(f"{each.get('namespace')}/{each['name']}" for each in binding.get("subjects") or ())
        yield bad(
            f"the RoleBinding {name} in {site.namespace} is for {bound}, and the operator is {account}",
            f"Its owner: set operator.namespace={account.namespace}, "
            f"operator.serviceAccountName={account.name}.",
        )
        return
    yield good(f"site {where} consents to {federation}")
    needs = AT_A_REMOTE_SITE if site.spec.remote else AT_A_SITE
    yield from check_rights(cluster, account, site.namespace, needs, upgrade)


def _binds(binding: Object, account: Account) -> bool:
    return any(
        (each["kind"], each.get("namespace"), each["name"])
        == ("ServiceAccount", account.namespace, account.name)
        for each in binding.get("subjects") or ()
    )


def _check_pod(cluster: Cluster, where: SiteName, site: Site) -> Iterator[Finding]:
    if site.spec.trainer.image is None:
        yield bad(f"site {where} sets no trainer image", "Its owner: set trainer.image.")
    elif "@sha256:" not in site.spec.trainer.image:
        yield unknown(
            f"site {where} names its trainer by a tag, which may change: {site.spec.trainer.image}",
            "Its owner: set trainer.image.digest.",
        )
    account = site.spec.trainer.service_account_name
    if account is not None:
        yield from _check_object(cluster, _ACCOUNTS, where, "service account", account)
    for secret in site.spec.trainer.image_pull_secrets:
        yield from _check_object(cluster, SECRETS, where, "Secret", secret)
    volume = site.spec.volume.persistent_volume_claim
    if volume is not None:
        yield _check_claim(cluster, where, "images", volume.claim_name)
    if site.spec.state is None:
        yield bad(
            f"site {where} has no volume for its state", "Its owner: set state.existingClaim or state.size."
        )
    else:
        yield _check_claim(cluster, where, "state", site.spec.state.persistent_volume_claim.claim_name)
    yield from _check_level(cluster, where, hosts=site.spec.volume.host_path is not None)


def _check_claim(cluster: Cluster, where: SiteName, what: str, name: str) -> Finding:
    try:
        claim = cluster.get(_CLAIMS, where.namespace, name)
    except Forbidden:
        return unknown(
            f"cannot check the claim {name} of {where}: you may not read it",
            f"Let the site's owner run: segviz doctor --site {where}",
        )
    if claim is None:
        return bad(
            f"site {where} has no claim {name} for its {what}", f"kubectl -n {where.namespace} get pvc"
        )
    phase = claim.get("status", {}).get("phase")
    if phase == "Lost":
        return bad(
            f"the claim {name} of {where} has lost its volume",
            f"kubectl -n {where.namespace} describe pvc {name}",
        )
    if phase != "Bound":
        return unknown(
            f"the claim {name} of {where} is {phase}: many storage classes bind with the first Pod",
            f"kubectl -n {where.namespace} describe pvc {name}",
        )
    return good(f"the claim {name} of {where} ({what}) is bound")


def _check_object(cluster: Cluster, kind: Kind, where: SiteName, what: str, name: str) -> Iterator[Finding]:
    try:
        found = cluster.get(kind, where.namespace, name)
    except Forbidden:
        return
    if found is None:
        yield bad(
            f"site {where} refers to {what} {where.namespace}/{name}, which does not exist",
            f"Create it in {where.namespace}.",
        )


def _check_level(cluster: Cluster, where: SiteName, *, hosts: bool) -> Iterator[Finding]:
    try:
        namespace = cluster.get(_NAMESPACES, "", where.namespace)
    except Forbidden:
        return
    level = ((namespace or {}).get("metadata", {}).get("labels") or {}).get(_LEVEL)
    if hosts and level in ("restricted", "baseline"):
        yield bad(
            f"{where.namespace} enforces PodSecurity {level}, which forbids the hostPath of {where}",
            "Its owner: use data.existingClaim with a claim; a PersistentVolume of type local works.",
        )
    elif not hosts and level != "restricted":
        yield unknown(
            f"{where.namespace} does not enforce PodSecurity restricted, which all SegViz Pods meet",
            f"kubectl label namespace {where.namespace} {_LEVEL}=restricted",
        )
    else:
        yield good(f"{where.namespace} enforces PodSecurity {level or 'nothing, as its hostPath needs'}")
