"""Who may do what, asked of a real API server after real installs, beside committed tables.

Two ways of asking: all rules of an account in a place (as `kubectl auth can-i --list` does), and each verb on
each resource one by one (as `kubectl auth can-i VERB RESOURCE` does), which needs no trust in such a list.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from builders.rendered import LIVERS, POLICY, STORE, Release
from integration.apiserver import ApiServer
from integration.helm_releases import Helm

kubernetes = pytest.importorskip("kubernetes")
from kubernetes.client import (  # noqa: E402
    ApiException,
    AuthorizationV1Api,
    CoreV1Api,
)

TABLES = Path(__file__).parent / "rights"
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
SPECIAL = {
    "roles": ("bind", "escalate"),
    "clusterroles": ("bind", "escalate"),
    "serviceaccounts": ("impersonate",),
    "users": ("impersonate",),
    "groups": ("impersonate",),
    "signers": ("approve", "sign"),
    "podsecuritypolicies": ("use",),
}
EVERYWHERE = ""
OPERATOR = ("rights-operator", "segviz-operator")


class Right(NamedTuple):
    resource: str
    """resource[/subresource].group"""
    verb: str
    names: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def admin(apiserver: ApiServer, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    home = tmp_path_factory.mktemp("helm")
    return Helm(apiserver.write_kubeconfig(home / "admin"), home)


@pytest.fixture(scope="module")
def namespaces(apiserver: ApiServer) -> None:
    for name in (
        *(
            "rights-operator",
            "rights-oncology",
            "rights-basel",
            "rights-bern",
            "rights-chur",
            "rights-stranger",
        ),
        "rights-narrow",
    ):
        CoreV1Api(apiserver.client()).create_namespace({"metadata": {"name": name}})


def site(name: str, federations: list[str], operator: str = "rights-operator", **values: Any) -> Release:
    given = {
        "allowedFederations": federations,
        "operator": {"namespace": operator},
        "dataSets": [LIVERS],
        "data": {"existingClaim": "images"},
        "networkPolicy": {"store": STORE},
    }
    return Release("segviz-site", name, f"rights-{name}", given | values)


@pytest.fixture(scope="module")
def installed(admin: Helm, namespaces: None) -> None:
    """Operators of both scopes; basel consents to two federations, bern to none, chur is a remote site."""
    federated = ["rights-operator", "rights-oncology"]
    wide = {"federationNamespaces": federated, "networkPolicy": POLICY}
    narrow = {
        "scope": "Namespaces",
        "rbac": {"aggregate": False},
        "siteNamespaces": ["rights-basel", "rights-bern"],
        "networkPolicy": POLICY,
    }
    admin.install(Release("segviz-operator", "segviz", "rights-operator", wide))
    admin.install(Release("segviz-operator", "segviz", "rights-narrow", narrow))
    admin.install(site("basel", ["rights-operator/abdomen", "rights-oncology/chest"]))
    admin.install(site("bern", []))
    admin.install(site("chur", ["rights-operator/abdomen"], remote=True, data={}, networkPolicy={}))


def token(apiserver: ApiServer, namespace: str, account: str) -> str:
    request = {"spec": {"expirationSeconds": 3600}}
    made = CoreV1Api(apiserver.client()).create_namespaced_service_account_token(account, namespace, request)
    found: str = made.status.token
    return found


# --- the rules, listed ----------------------------------------------------------------------------


def rules(client: Any, namespace: str) -> set[Right]:
    """What the server says of itself in a namespace; RBAC's list is complete."""
    review = AuthorizationV1Api(client).create_self_subject_rules_review({"spec": {"namespace": namespace}})
    assert review.status.incomplete is False
    return {
        Right(_name(resource, group), verb, tuple(rule.resource_names or ()))
        for rule in review.status.resource_rules
        for group in rule.api_groups
        for resource in rule.resources
        for verb in rule.verbs
    }


def _name(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def table(rights: Iterable[Right]) -> str:
    """As `kubectl auth can-i --list` shows it: a line for each resource."""
    verbs: dict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    for right in rights:
        verbs[right.resource, right.names].add(right.verb)
    lines = [
        f"{resource:50}{' '.join(sorted(those)):46}{' '.join(names)}".rstrip()
        for (resource, names), those in sorted(verbs.items())
    ]
    return "\n".join([f"{'RESOURCE':50}{'VERBS':46}ONLY THESE", *lines]) + "\n"


PLACES = {
    "operator-own-namespace": (*OPERATOR, "rights-operator"),
    "operator-other-federation-namespace": (*OPERATOR, "rights-oncology"),
    "operator-consenting-site": (*OPERATOR, "rights-basel"),
    "operator-site-without-consent": (*OPERATOR, "rights-bern"),
    "operator-remote-site": (*OPERATOR, "rights-chur"),
    "operator-elsewhere": (*OPERATOR, "rights-stranger"),
    "narrow-operator-own-namespace": ("rights-narrow", "segviz-operator", "rights-narrow"),
    "narrow-operator-site-of-another-operator": ("rights-narrow", "segviz-operator", "rights-bern"),
    "narrow-operator-elsewhere": ("rights-narrow", "segviz-operator", "rights-stranger"),
    "aggregator-own-namespace": ("rights-operator", "segviz-aggregator", "rights-operator"),
    "trainer-own-namespace": ("rights-basel", "segviz-trainer", "rights-basel"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.usefixtures("installed")
def test_the_rules_are_those_of_the_committed_table(apiserver: ApiServer, place: str):
    namespace, account, where = PLACES[place]
    found = rules(apiserver.client(token(apiserver, namespace, account)), where)
    assert table(found) == (TABLES / f"{place}.txt").read_text(encoding="utf-8")


@pytest.mark.usefixtures("installed")
def test_trainer_and_aggregator_may_do_nothing_that_not_everybody_may(apiserver: ApiServer):
    nobody = rules(
        apiserver.client(token(apiserver, "rights-narrow", "segviz-aggregator")), "rights-stranger"
    )
    # Only to ask what one may do: `system:basic-user`.
    assert {right.resource.partition(".")[2] for right in nobody} <= {
        "authorization.k8s.io",
        "authentication.k8s.io",
    }
    for namespace, account in (("rights-basel", "segviz-trainer"), ("rights-operator", "segviz-aggregator")):
        assert rules(apiserver.client(token(apiserver, namespace, account)), namespace) == nobody


# --- every verb on every resource, one by one -----------------------------------------------------


def discovered(apiserver: ApiServer) -> Iterator[tuple[str, str]]:
    """resource[/subresource] and group of all that the server serves, in any version."""
    client = apiserver.client()

    def read(path: str) -> dict[str, Any]:
        answer: dict[str, Any] = client.call_api(
            *client.param_serialize("GET", path, auth_settings=["BearerToken"], header_params={})
        ).read()
        return dict(json.loads(answer))

    seen = {(each["name"], "") for each in read("/api/v1")["resources"]}
    for group in read("/apis")["groups"]:
        for version in group["versions"]:
            resources = read(f"/apis/{version['groupVersion']}")["resources"]
            seen |= {(each["name"], group["name"]) for each in resources}
    yield from sorted(seen | {("users", ""), ("groups", ""), ("signers", "certificates.k8s.io")})


def allowed(client: Any, subject: str, where: str, resource: tuple[str, str], verb: str) -> bool:
    name, _, subresource = resource[0].partition("/")
    attributes = {"verb": verb, "resource": name, "subresource": subresource, "group": resource[1]}
    namespace, _ = subject.split(":")[2:]
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    spec = {
        "user": subject,
        "groups": groups,
        "resourceAttributes": attributes | ({"namespace": where} if where else {}),
    }
    answer = AuthorizationV1Api(client).create_subject_access_review({"spec": spec})
    return bool(answer.status.allowed)


@pytest.mark.usefixtures("installed")
def test_no_verb_on_any_resource_is_allowed_that_is_not_in_the_tables(apiserver: ApiServer):
    subject = "system:serviceaccount:rights-operator:segviz-operator"
    resources = list(discovered(apiserver))
    assert {("secrets", ""), ("pods/exec", ""), ("segvizsites/status", "segviz.dev")} <= set(resources)
    places = (EVERYWHERE, "rights-operator", "rights-basel", "rights-bern", "rights-stranger", "kube-system")
    asked = [
        (where, resource, verb)
        for where in places
        for resource in resources
        for verb in (*VERBS, *SPECIAL.get(resource[0], ()))
    ]
    local = ThreadPoolExecutor(4)
    client = apiserver.client()
    with local as pool:
        answers = pool.map(lambda one: allowed(client, subject, *one), asked)
        may = {one for one, yes in zip(asked, answers, strict=True) if yes}
    own = apiserver.client(token(apiserver, *OPERATOR))
    listed = {
        where: {right for right in rules(own, where) if not right.names}
        for where in places
        if where != EVERYWHERE
    }
    wide = listed["rights-stranger"]
    expected = {
        (where, resource, verb)
        for where, resource, verb in asked
        if Right(_name(*resource), verb) in listed.get(where, wide)
    }
    assert sorted(may - expected) == []
    assert sorted(expected - may) == []
    print(f"{len(asked)} questions about {len(resources)} resources, {len(may)} times yes")


@pytest.mark.usefixtures("installed")
def test_a_site_without_consent_is_as_closed_as_a_namespace_without_a_site(apiserver: ApiServer):
    own = apiserver.client(token(apiserver, *OPERATOR))
    assert rules(own, "rights-bern") == rules(own, "rights-stranger")


@pytest.mark.usefixtures("installed")
def test_no_secret_can_be_read_outside_federations_and_consent(apiserver: ApiServer):
    own = CoreV1Api(apiserver.client(token(apiserver, *OPERATOR)))
    for namespace in ("rights-bern", "rights-stranger", "kube-system"):
        with pytest.raises(ApiException) as refusal:
            own.read_namespaced_secret("anything", namespace)
        assert refusal.value.status == 403
    with pytest.raises(ApiException) as missing:
        own.read_namespaced_secret("anything", "rights-basel")
    assert missing.value.status == 404
    # Not even there may it list them.
    with pytest.raises(ApiException) as refusal:
        own.list_namespaced_secret("rights-basel")
    assert refusal.value.status == 403
