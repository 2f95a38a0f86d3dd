"""What the operator's service account must be allowed, asked of the API server's own authorizer."""

from collections.abc import Iterator
from dataclasses import dataclass

from segviz_operator.checkup.finding import Finding, bad, good, unknown
from segviz_operator.cluster.api.client import Cluster, Forbidden, Kind

_REVIEWS = Kind("apis/authorization.k8s.io/v1", "subjectaccessreviews")


@dataclass(frozen=True)
class Account:
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def groups(self) -> list[str]:
        return ["system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", "system:authenticated"]


@dataclass(frozen=True)
class Need:
    group: str
    resource: str
    verbs: tuple[str, ...]
    subresource: str = ""


_SEGVIZ = "segviz.dev"

BESIDE_FEDERATIONS = (
    Need(_SEGVIZ, "segvizfederations", ("get", "list", "watch", "patch", "delete")),
    Need(_SEGVIZ, "segvizfederations", ("patch",), "status"),
    Need("batch", "jobs", ("get", "list", "watch", "create", "patch", "delete")),
    Need("", "pods", ("list",)),
    Need("", "secrets", ("get", "create", "patch", "delete")),
    Need("", "configmaps", ("get",)),
    Need("", "events", ("list", "create")),
)
AT_A_REMOTE_SITE = (
    Need(_SEGVIZ, "segvizsites", ("get", "list", "watch")),
    Need("", "secrets", ("get", "create", "patch", "delete")),
)
AT_A_SITE = (
    *AT_A_REMOTE_SITE,
    Need("batch", "jobs", ("get", "list", "watch", "create", "patch", "delete")),
    Need("", "pods", ("list",)),
    Need("", "events", ("list", "create")),
)


def check_rights(
    cluster: Cluster, account: Account, namespace: str, needs: tuple[Need, ...], remedy: str
) -> Iterator[Finding]:
    lacking: list[str] = []
    try:
        for need in needs:
            verbs = [verb for verb in need.verbs if not _may(cluster, account, namespace, need, verb)]
            if verbs:
                resource = "/".join(filter(None, (need.resource, need.subresource)))
                lacking.append(f"{' '.join(verbs)} {resource}")
    except Forbidden:
        yield unknown(
            f"cannot tell whether the operator ({account}) may work in {namespace}: you may not ask",
            "Let somebody with the right to create subjectaccessreviews run this command.",
        )
        return
    if lacking:
        yield bad(f"the operator ({account}) lacks rights in {namespace}: {', '.join(lacking)}", remedy)
    else:
        yield good(f"the operator ({account}) has all the rights it needs in {namespace}")


def _may(cluster: Cluster, account: Account, namespace: str, need: Need, verb: str) -> bool:
    attributes = {
        "namespace": namespace,
        "verb": verb,
        "group": need.group,
        "resource": need.resource,
        "subresource": need.subresource,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "metadata": {"namespace": ""},
        "spec": {"user": account.user, "groups": account.groups, "resourceAttributes": attributes},
    }
    return bool(cluster.create(_REVIEWS, review)["status"]["allowed"])
