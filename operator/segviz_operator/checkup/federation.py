"""A federation: what the operator says of it, its own namespace, its store, and each of its sites."""

from collections.abc import Iterator

from segviz_operator.checkup.finding import Finding, bad, good, unknown
from segviz_operator.checkup.pods import check_pods
from segviz_operator.checkup.rights import BESIDE_FEDERATIONS, Account, check_rights
from segviz_operator.checkup.site import SiteName, check_site
from segviz_operator.checkup.store import check_store
from segviz_operator.cluster.api.client import FEDERATIONS, Cluster, Forbidden, Object
from segviz_operator.cluster.api.names import FINALIZER
from segviz_operator.manifests.manifest import Federation, from_server


def check_federation(
    cluster: Cluster, account: Account, namespace: str, name: str, *, asks_store: bool = True
) -> Iterator[Finding]:
    try:
        raw = cluster.get(FEDERATIONS, namespace, name)
    except Forbidden:
        yield unknown(
            f"cannot check federation {namespace}/{name}: you may not read it",
            f"Let somebody who may read segvizfederations in {namespace} run this command.",
        )
        return
    if raw is None:
        yield bad(
            f"SegVizFederation {namespace}/{name} does not exist",
            f"kubectl get svf -n {namespace}; kubectl get svf -A",
        )
        return
    federation = from_server(raw)
    assert isinstance(federation, Federation)
    yield from _check_status(raw, federation)
    yield from check_rights(
        cluster,
        account,
        namespace,
        BESIDE_FEDERATIONS,
        f"helm upgrade the operator with {namespace} in federationNamespaces",
    )
    yield from check_pods(cluster, namespace, federation.key, of_sites=False)
    if asks_store:
        yield from check_store(cluster, federation)
    for member in (*federation.spec.sites, *federation.spec.evaluation.sites):
        where = SiteName(member.site_ref.namespace, member.site_ref.name)
        yield from check_site(cluster, account, where, (federation.key,))


def _check_preflight(status: Object) -> Iterator[Finding]:
    """What each trainer found amiss with its own machine: its clock, its disk, its GPU."""
    for site in status.get("sites", ()):
        for found in site.get("preflight", ()):
            if found["severity"] != "Info":
                verdict = bad if found["severity"] == "Error" else unknown
                yield verdict(f"site {site['alias']}: {found['check']}: {found['message']}", "")


def _check_status(raw: Object, federation: Federation) -> Iterator[Finding]:
    metadata, status = raw["metadata"], raw.get("status", {})
    if "deletionTimestamp" in metadata and FINALIZER in metadata.get("finalizers", ()):
        yield bad(
            f"{federation} was deleted at {metadata['deletionTimestamp']}, but is not cleaned up yet",
            'See docs/how-to/operations.md, "A federation that does not go".',
        )
    conditions = {each["type"]: each for each in status.get("conditions", ())}
    if status.get("observedGeneration") != metadata["generation"]:
        yield bad(
            f"the operator has not looked at {federation} (generation {metadata['generation']})",
            f"Check that it runs and watches namespace {federation.namespace}: its log says so.",
        )
        return
    for kind, wanted in (("Accepted", "True"), ("Failed", "False"), ("Degraded", "False")):
        found = conditions.get(kind)
        if found is not None and found["status"] != wanted:
            verdict = unknown if found["status"] == "Unknown" else bad
            yield verdict(
                f"{federation} is {kind}={found['status']}, {found['reason']}: {found['message']}", ""
            )
    yield from _check_preflight(status)
    if conditions.get("Accepted", {}).get("status") == "True":
        yield good(
            f"{federation} is accepted; phase {status.get('phase')}, round {status.get('currentRound', 0)}"
        )
