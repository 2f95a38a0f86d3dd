"""What is once in a cluster: the CRDs and the operator."""

from collections.abc import Iterator

import yaml

from segviz_operator.checkup.finding import Finding, bad, good, unknown
from segviz_operator.checkup.rights import Account
from segviz_operator.cluster.api.client import PODS, Cluster, Forbidden, Kind, Object
from segviz_operator.manifests.defaulting import Json
from segviz_operator.manifests.schema import crd_files

_CRDS = Kind("apis/apiextensions.k8s.io/v1", "customresourcedefinitions")
_DEPLOYMENTS = Kind("apis/apps/v1", "deployments")
_APPLY = "kubectl apply --server-side --force-conflicts -f charts/segviz-operator/crds/"
_OPERATOR = "segviz-operator"


def check_installation(cluster: Cluster, account: Account) -> Iterator[Finding]:
    for path in crd_files():
        yield _check_crd(cluster, yaml.safe_load(path.read_bytes()))
    yield from _check_operator(cluster, account)


def _check_crd(cluster: Cluster, ours: Object) -> Finding:
    name = ours["metadata"]["name"]
    try:
        found = cluster.get(_CRDS, "", name)
    except Forbidden:
        return unknown(
            f"cannot tell which version of the CRD {name} is installed: you may not read CRDs",
            "Let somebody who may read customresourcedefinitions run this command.",
        )
    if found is None:
        return bad(f"the CRD {name} is not installed", _APPLY)
    conditions = {each["type"]: each["status"] for each in found.get("status", {}).get("conditions", ())}
    if conditions.get("Established") != "True":
        return bad(f"the CRD {name} is not served: {conditions}", f"kubectl describe crd {name}")
    differs = sorted(_difference(_schema(ours), _schema(found), ""))
    if differs:
        return bad(
            f"the installed CRD {name} is not the one of this segviz: they differ in {', '.join(differs[:3])}"
            f"{f' and {len(differs) - 3} more' if len(differs) > 3 else ''}",
            f"{_APPLY}   # from the release of this segviz",
        )
    return good(f"the CRD {name} is installed, in the version of this segviz")


def _schema(crd: Object) -> Json:
    versions = {each["name"]: each["schema"]["openAPIV3Schema"] for each in crd["spec"]["versions"]}
    return versions.get("v1alpha1", {})


def _difference(ours: Json, theirs: Json, path: str) -> Iterator[str]:
    """Paths at which two schemas differ, descriptions apart."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours.keys() | theirs.keys():
            # `description` may be a field's own name, and then holds a schema.
            if key == "description" and not isinstance(ours.get(key), dict):
                continue
            below = path if key in ("properties", "items") else f"{path}.{key}"
            yield from _difference(ours.get(key), theirs.get(key), below)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for mine, other in zip(ours, theirs, strict=True):
            yield from _difference(mine, other, path)
    elif ours != theirs:
        yield path.lstrip(".") or "the whole"


def _check_operator(cluster: Cluster, account: Account) -> Iterator[Finding]:
    where = f"-n {account.namespace}"
    try:
        deployment = cluster.get(_DEPLOYMENTS, account.namespace, _OPERATOR)
    except Forbidden:
        yield unknown(
            f"cannot tell whether the operator runs: you may not read deployments in {account.namespace}",
            "Let somebody who may read them run this command, or name its namespace with --operator.",
        )
        return
    if deployment is None:
        yield bad(
            f"the deployment {_OPERATOR} does not exist in {account.namespace}",
            "Install it: helm install segviz charts/segviz-operator -n NAMESPACE. "
            "If it runs elsewhere, add --operator NAMESPACE/ACCOUNT to this command.",
        )
        return
    runs_as = deployment["spec"]["template"]["spec"].get("serviceAccountName", "default")
    if runs_as != account.name:
        yield bad(
            f"the operator runs as {account.namespace}/{runs_as}, not as {account}",
            f"Add --operator {account.namespace}/{runs_as} to this command. Sites must set "
            f"operator.serviceAccountName={runs_as}.",
        )
    if not deployment.get("status", {}).get("readyReplicas"):
        why = _why_not_ready(cluster, account.namespace)
        yield bad(
            f"the operator is not ready{why}",
            f"kubectl {where} describe pods; kubectl {where} logs deploy/{_OPERATOR}",
        )
    else:
        yield good(f"the operator runs in {account.namespace}")


def _why_not_ready(cluster: Cluster, namespace: str) -> str:
    try:
        pods = cluster.list(PODS, namespace, labelSelector=f"app.kubernetes.io/name={_OPERATOR}")
    except Forbidden:
        return ""
    for pod in pods:
        for each in pod.get("status", {}).get("containerStatuses", ()):
            waiting = each.get("state", {}).get("waiting")
            if waiting:
                return f": {waiting.get('reason', '')} {waiting.get('message', '')}".rstrip()
    return ""
