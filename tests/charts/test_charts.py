"""The charts, rendered: rights, security contexts, policies, consent, and what a mistaken value is told."""

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from builders.rendered import (
    CHARTS,
    DIGEST,
    LIVERS,
    MESH,
    OPERATOR,
    POLICY,
    SITE,
    STORE,
    TOP,
    UID,
    VARIANTS,
    Object,
    Refused,
    Release,
    Values,
    lint,
    of_kind,
    render,
)
from segviz_exchange.contract.site_spec import SitePolicy
from segviz_operator.__main__ import liveness_at, read_pods
from segviz_operator.manifests.documents import read_documents
from segviz_operator.manifests.manifest import parse
from segviz_operator.manifests.problem import InvalidManifest
from segviz_operator.manifests.schema import schemas

variants = pytest.mark.parametrize("release", VARIANTS.values(), ids=VARIANTS)


def operator(name: str) -> list[Object]:
    return render(VARIANTS[f"segviz-operator: {name}"])


def site(name: str) -> list[Object]:
    return render(VARIANTS[f"segviz-site: {name}"])


def only(objects: list[Object], kind: str, name: str | None = None) -> Object:
    (found,) = [each for each in of_kind(objects, kind) if name in (None, each["metadata"]["name"])]
    return found


def pods(objects: list[Object]) -> list[Object]:
    return [each["spec"]["template"]["spec"] for each in of_kind(objects, "Deployment", "Job")]


# --- what follows from other files ----------------------------------------------------------------


@pytest.fixture
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("segviz_tools_charts", TOP / "tools" / "charts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_copy_of_the_crds_and_the_tables_of_values_are_up_to_date(generator: ModuleType):
    assert generator.stale_files() == [], "run `make charts`"


def test_a_value_without_a_comment_is_refused(generator: ModuleType, tmp_path: Path):
    values = tmp_path / "values.yaml"
    values.write_text("a:\n  # -- said\n  b: 1\n  c: 2\n", encoding="utf-8")
    with pytest.raises(generator.Undocumented, match=r"4: a\.c has no comment"):
        generator.described_values(values)


def test_a_value_that_is_there_twice_is_refused(generator: ModuleType, tmp_path: Path):
    values = tmp_path / "values.yaml"
    values.write_text("# -- said\na: {}\n# -- said again\na: {}\n", encoding="utf-8")
    with pytest.raises(InvalidManifest, match=r"values\.yaml:4:1: the key a appears twice"):
        generator.described_values(values)


def test_a_comment_of_two_lines_becomes_one_cell(generator: ModuleType, tmp_path: Path):
    values = tmp_path / "values.yaml"
    values.write_text("# not this\n# -- one\n# two\nb: {c: 1}\n", encoding="utf-8")
    (value,) = generator.described_values(values)
    assert (value.key, value.default, value.description) == ("b", {"c": 1}, "one two")


@pytest.mark.parametrize("chart", ["segviz-operator", "segviz-site"])
def test_the_schema_knows_every_value_and_no_other(chart: str):
    (values,) = read_documents(CHARTS / chart / "values.yaml")
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text(encoding="utf-8"))
    unlike: list[str] = []

    def compare(value: Any, described: dict[str, Any], path: str) -> None:
        if "properties" not in described or not isinstance(value, dict):
            return
        assert described["additionalProperties"] is False, path
        # A map that is empty by default has keys of its own only in the schema.
        if value and set(value) != set(described["properties"]):
            unlike.append(path)
        for key in value:
            compare(value[key], described["properties"].get(key, {}), f"{path}.{key}")

    for key in ("global", "monitoring"):
        schema["properties"].pop(key, None)
        values.pop(key, None)
    compare(values, schema, "")
    # `resources` states some of what it may have.
    assert [path for path in unlike if not path.endswith("resources")] == []


def test_every_value_that_a_page_names_is_there():
    charts = [read_documents(path)[0] for path in sorted(CHARTS.glob("*/values.yaml"))]
    roots = {key for values in charts for key, value in values.items() if isinstance(value, dict)}
    named = re.compile(rf"`((?:{'|'.join(sorted(roots))})(?:\.[A-Za-z]+)+)(?:=[^`]*)?`")

    def has(values: Any, keys: list[str]) -> bool:
        if not keys:
            return True
        return isinstance(values, dict) and keys[0] in values and has(values[keys[0]], keys[1:])

    found = {
        (str(page.relative_to(TOP)), name)
        for page in (*sorted((TOP / "docs").rglob("*.md")), *sorted(CHARTS.glob("*/README.md")))
        for name in named.findall(page.read_text(encoding="utf-8"))
    }
    assert len(found) > 40
    assert {(page, name) for page, name in found if not any(has(v, name.split(".")) for v in charts)} == set()


def test_a_data_set_has_the_fields_of_the_crd():
    crd = schemas()["SegVizSite"]["properties"]["spec"]["properties"]["dataSets"]["items"]
    chart = json.loads((CHARTS / "segviz-site" / "values.schema.json").read_text(encoding="utf-8"))[
        "properties"
    ]["dataSets"]["items"]
    assert set(chart["properties"]) == set(crd["properties"])
    assert chart["required"] == crd["required"]
    assert chart["properties"]["layout"]["enum"] == crd["properties"]["layout"]["enum"]


# --- every variant --------------------------------------------------------------------------------


@variants
def test_helm_lint_has_nothing_against_it(release: Release):
    assert "0 chart(s) failed" in lint(release)


@variants
def test_no_rule_has_a_wildcard(release: Release):
    for role in of_kind(render(release), "Role", "ClusterRole"):
        for rule in role["rules"]:
            for part in ("apiGroups", "resources", "verbs", "resourceNames"):
                assert not any("*" in each for each in rule.get(part, [])), (role["metadata"]["name"], rule)


@variants
def test_pods_are_restricted(release: Release):
    for pod in pods(render(release)):
        context = pod["securityContext"]
        said = (release.values, release.values.get("trainer", {}))
        given = "ByCluster" in [each.get("userAssignment") for each in said]
        ids = [context.get(each) for each in ("runAsUser", "runAsGroup", "fsGroup")]
        assert context["runAsNonRoot"] is True
        assert ids == [None if given else 65532] * 3
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


@variants
def test_nobody_but_the_operator_mounts_a_token(release: Release):
    objects = render(release)
    for account in of_kind(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    for each in of_kind(objects, "Deployment", "Job"):
        mounts = each["spec"]["template"]["spec"]["automountServiceAccountToken"]
        assert mounts is (each["metadata"]["name"] == "segviz-operator")


@variants
def test_everything_says_its_namespace_and_release(release: Release):
    for each in render(release):
        clustered = each["kind"].startswith(("ClusterRole", "ValidatingAdmissionPolicy"))
        assert ("namespace" in each["metadata"]) is not clustered, each["metadata"]["name"]
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == release.name
        # The value `segviz-operator` marks what the operator makes, and selects it.
        assert each["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


# --- the operator ---------------------------------------------------------------------------------


def test_there_is_never_a_second_operator():
    deployment = only(operator("plain"), "Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})


def test_cluster_scope_writes_nothing_cluster_wide_but_federations():
    role = only(operator("plain"), "ClusterRole", "segviz-operator:segviz-system")
    writes = [
        (resource, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if verb not in ("get", "list", "watch")
    ]
    assert writes == [("segvizfederations", "patch"), ("segvizfederations/status", "patch")]
    assert "secrets" not in {resource for rule in role["rules"] for resource in rule["resources"]}


def test_namespaces_scope_has_no_cluster_role():
    objects = operator("namespaces")
    assert of_kind(objects, "ClusterRole", "ClusterRoleBinding") == []
    roles = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in of_kind(objects, "Role")}
    assert roles == {
        *((namespace, "segviz-operator-federations") for namespace in ("radiology", "oncology")),
        *((namespace, "segviz-operator-sites") for namespace in ("basel", "bern")),
        ("segviz-system", "segviz-operator-key"),
    }
    (pod,) = pods(objects)
    arguments = pod["containers"][0]["args"]
    assert [each for each in arguments if each.startswith("--namespace")] == [
        "--namespace=radiology",
        "--namespace=oncology",
        "--namespace=basel",
        "--namespace=bern",
    ]


def test_both_scopes_share_their_rules():
    of_cluster = only(operator("plain"), "ClusterRole", "segviz-operator:segviz-system")["rules"]
    work = only(operator("plain"), "Role", "segviz-operator-federations")["rules"]
    for role in of_kind(operator("namespaces"), "Role"):
        if role["metadata"]["name"] == "segviz-operator-key":
            continue  # of the operator's own namespace
        beside_federations = role["metadata"]["name"] == "segviz-operator-federations"
        assert role["rules"] == (of_cluster + work if beside_federations else of_cluster[:2])


def test_the_operator_only_looks_where_no_site_has_consented():
    for role in of_kind(operator("namespaces"), "Role"):
        if role["metadata"]["name"] == "segviz-operator-sites":
            assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}


def test_the_operators_key_is_no_business_of_the_chart_but_the_place_is():
    """An upgrade, and whoever renders without a cluster, leaves what the operator has put there."""
    objects = operator("plain")
    secret = only(objects, "Secret", "segviz-operator-key")
    assert secret.keys() & {"data", "stringData"} == set()
    (rule,) = only(objects, "Role", "segviz-operator-key")["rules"]
    assert (rule["resourceNames"], rule["verbs"]) == (["segviz-operator-key"], ["get", "patch"])
    (pod,) = pods(objects)
    assert "--key-secret=segviz-system/segviz-operator-key" in pod["containers"][0]["args"]


def test_without_signing_there_is_neither_key_nor_right():
    values = {**OPERATOR["plain"], "signing": {"enabled": False}}
    objects = render(Release("segviz-operator", "segviz", "segviz-system", values))
    assert not [each for each in objects if "operator-key" in json.dumps(each)]


def test_no_site_gets_another_key_at_each_rendering():
    """Where nothing can be looked up none is made."""
    assert not of_kind(site("plain"), "Secret")
    assert "signing" not in only(site("plain"), "SegVizSite")["spec"]


def test_a_site_s_own_key_is_named():
    given = {"existingSecret": "own", "publicKey": "0" * 64}
    objects = render(Release("segviz-site", "basel", "basel", {**SITE["plain"], "signing": given}))
    assert not of_kind(objects, "Secret")
    signing = only(objects, "SegVizSite")["spec"]["signing"]
    assert signing == {"publicKey": "0" * 64, "secretRef": {"name": "own"}}


def test_an_image_is_taken_by_digest_where_there_is_one():
    (pod,) = pods(operator("air-gapped"))
    assert pod["containers"][0]["image"] == f"registry.hospital.example/mirror/segviz-operator@{DIGEST}"
    assert pod["imagePullSecrets"] == [{"name": "mirror"}]


def test_the_operator_reads_what_the_chart_says_of_its_pods(tmp_path: Path):
    settings = only(operator("air-gapped"), "ConfigMap", "segviz-operator-settings")
    path = tmp_path / "pods.json"
    path.write_text(settings["data"]["pods.json"], encoding="utf-8")
    aggregator = read_pods(path).aggregator
    assert aggregator.image == "registry.hospital.example/mirror/segviz-aggregator:2"
    assert aggregator.image_pull_secrets == ("mirror",)
    assert aggregator.service_account_name == "segviz-aggregator"
    assert aggregator.tolerations[0].operator == "Exists"


def test_changed_settings_restart_the_operator():
    def checksum(values: Values) -> str:
        objects = render(Release("segviz-operator", "segviz", "segviz-system", values))
        deployment = only(objects, "Deployment", "segviz-operator")
        found: str = deployment["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
        return found

    assert checksum(OPERATOR["plain"]) != checksum(
        {**OPERATOR["plain"], "aggregator": {"image": {"tag": "2"}}}
    )


def test_what_other_clusters_need_is_passed_on(tmp_path: Path):
    objects = operator("any cluster")
    path = tmp_path / "pods.json"
    settings = only(objects, "ConfigMap", "segviz-operator-settings")
    path.write_text(settings["data"]["pods.json"], encoding="utf-8")
    images = read_pods(path)
    assert images.aggregator.user_assignment == images.export.user_assignment == "ByCluster"
    assert images.aggregator.queue_name == images.export.queue_name == "cpus"
    assert images.aggregator.pod_metadata is not None
    assert images.aggregator.pod_metadata.annotations == {"sidecar.istio.io/inject": "false"}
    account = only(objects, "ServiceAccount", "segviz-aggregator")
    assert account["metadata"]["annotations"] == {"note": "x"}
    assert only(site("any cluster"), "ServiceAccount")["metadata"]["annotations"] == {"note": "x"}


def test_the_operators_pod_keeps_the_labels_that_find_it():
    deployment = only(operator("any cluster"), "Deployment", "segviz-operator")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels.items() >= deployment["spec"]["selector"]["matchLabels"].items()
    assert (labels["team"], labels["cost-centre"]) == ("ct", "4711")
    pod = deployment["spec"]["template"]["spec"]
    assert {"name": "ca", "configMap": {"name": "ca"}} in pod["volumes"]
    assert {"name": "ca", "mountPath": "/ca", "readOnly": True} in pod["containers"][0]["volumeMounts"]


@pytest.mark.parametrize("objects", [operator, site], ids=["operator", "site"])
def test_common_labels_are_on_everything_of_the_chart(objects: Callable[[str], list[Object]]):
    for each in objects("any cluster"):
        if each["kind"] != "ExternalSecret":
            assert each["metadata"]["labels"]["cost-centre"] == "4711", each["metadata"]["name"]
    extra = only(objects("any cluster"), "ExternalSecret")
    assert extra["metadata"]["namespace"] in ("segviz-system", "basel")


def test_the_operators_own_identity_is_a_token_for_the_sts_alone():
    deployment = only(operator("any cluster"), "Deployment", "segviz-operator")
    pod = deployment["spec"]["template"]["spec"]
    arguments = pod["containers"][0]["args"]
    assert {"--sts-endpoint=https://sts.example", "--role-arn=arn:aws:iam::1:role/segviz"} <= {*arguments}
    (token,) = [each for volume in pod["volumes"] for each in volume.get("projected", {}).get("sources", [])]
    assert token["serviceAccountToken"]["audience"] == "sts.amazonaws.com"
    (plain,) = pods(operator("plain"))
    assert not any("projected" in volume for volume in plain["volumes"])


def test_the_liveness_probe_asks_at_the_pods_own_address():
    """The kubelet asks there, in IPv4 or IPv6."""
    (pod,) = pods(operator("plain"))
    (container,) = pod["containers"]
    assert "--pod-address=$(POD_ADDRESS)" in container["args"]
    address = {"name": "POD_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    assert address in container["env"]
    url = "http://0.0.0.0:8080/healthz"
    assert liveness_at(url, "fd00::7") == "http://[fd00::7]:8080/healthz"
    assert liveness_at(url, "10.0.0.7") == "http://10.0.0.7:8080/healthz"
    assert liveness_at(url, "") == url
    assert liveness_at("", "10.0.0.7") == ""


def test_a_trial_stores_keys_are_drawn_once_or_somebody_elses():
    """Each rendering without a cluster draws others: who renders so names a Secret."""
    objects = operator("trial store with keys of its own")
    assert [each["metadata"]["name"] for each in of_kind(objects, "Secret")] == ["segviz-operator-key"]
    assert objects == render(Release("segviz-operator", "segviz", "segviz-system", {
        **OPERATOR["trial store with keys of its own"], "podAnnotations": {}
    }))  # fmt: skip
    store = only(objects, "Deployment", "segviz-trial-store")["spec"]["template"]["spec"]["containers"][0]
    keys = [each["valueFrom"]["secretKeyRef"] for each in store["env"] if "valueFrom" in each]
    assert keys == [{"name": "keys", "key": "accessKey"}, {"name": "keys", "key": "secretKey"}]


# --- a site ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", SITE.values(), ids=SITE)
def test_the_site_is_one_that_validate_takes(values: Values):
    parse(only(render(Release("segviz-site", "basel", "basel", values)), "SegVizSite"))


@pytest.mark.parametrize("values", SITE.values(), ids=SITE)
def test_the_site_s_own_policy_says_what_the_site_says(values: Values):
    objects = render(Release("segviz-site", "basel", "basel", values))
    site = parse(only(objects, "SegVizSite"))
    if site.spec.remote:
        assert not of_kind(objects, "ConfigMap")
        return
    own = only(objects, "ConfigMap", f"{site.name}-policy")["data"]["policy.json"]
    policy = msgspec.json.decode(own, type=SitePolicy)
    assert site.spec.under(policy) == site.spec


def test_large_numbers_of_a_policy_stay_whole():
    limits = {"minCases": 1_000_000, "maxRounds": 1000, "minSteps": 1_000_000}
    values = {**next(iter(SITE.values())), "limits": limits}
    objects = render(Release("segviz-site", "basel", "basel", values))
    own = only(objects, "ConfigMap")["data"]["policy.json"]
    assert msgspec.json.decode(own, type=SitePolicy).limits.min_cases == 1_000_000


def test_every_field_of_a_site_can_be_set():
    """A field that the chart does not know could never be set by whoever installs with it."""
    spec = schemas()["SegVizSite"]["properties"]["spec"]["properties"]
    sites = site_specs()
    assert {field for each in sites for field in each} >= set(spec)
    assert {field for each in sites for field in each.get("trainer", {})} == set(
        spec["trainer"]["properties"]
    )
    assert {field for each in sites for field in each.get("privacy", {})} == set(
        spec["privacy"]["properties"]
    )


def site_specs() -> list[dict[str, Any]]:
    return [
        only(render(Release("segviz-site", "basel", "basel", values)), "SegVizSite")["spec"]
        for values in SITE.values()
    ]


def test_consent_is_one_binding_per_allowed_federation():
    objects = site("many federations")
    bindings = of_kind(objects, "RoleBinding")
    assert [each["metadata"]["name"] for each in bindings] == [
        "segviz:consent:radiology:abdomen",
        "segviz:consent:oncology:chest.v2",
    ]
    for each in bindings:
        assert each["subjects"] == [
            {"kind": "ServiceAccount", "name": "segviz-operator", "namespace": "segviz-system"}
        ]
        assert each["roleRef"]["kind"] == "Role"
    readable = [rule for rule in only(objects, "Role")["rules"] if rule["resources"] == ["rolebindings"]]
    assert readable[0]["resourceNames"] == [each["metadata"]["name"] for each in bindings]
    assert readable[0]["verbs"] == ["get"]


def test_a_federation_is_pinned_by_its_uid_and_let_in_by_its_name():
    objects = site("limits")
    assert only(objects, "SegVizSite")["spec"]["allowedFederations"] == [
        {"namespace": "radiology", "name": "abdomen", "uid": UID},
        {"namespace": "oncology", "name": "abdomen", "uid": UID.replace("1", "2")},
        {"namespace": "oncology", "name": "chest.v2"},
    ]
    assert [each["metadata"]["name"] for each in of_kind(objects, "RoleBinding")] == [
        "segviz:consent:radiology:abdomen",
        "segviz:consent:oncology:abdomen",
        "segviz:consent:oncology:chest.v2",
    ]


def test_a_site_that_allows_no_federation_grants_nothing():
    assert of_kind(site("no federation"), "Role", "RoleBinding") == []


def test_the_operator_may_not_change_the_site_itself():
    for rule in only(site("plain"), "Role")["rules"]:
        if "segvizsites" in rule["resources"]:
            assert rule["verbs"] == ["get", "list", "watch"]


def test_a_remote_site_lets_nobody_make_jobs():
    objects = site("remote")
    assert of_kind(objects, "PersistentVolumeClaim", "ServiceAccount", "NetworkPolicy") == []
    (jobs,) = [rule for rule in only(objects, "Role")["rules"] if "jobs" in rule["resources"]]
    assert jobs["verbs"] == ["get", "list", "watch"]
    assert "trainer" not in only(objects, "SegVizSite")["spec"]


def test_the_state_outlives_the_release_unless_told_otherwise():
    assert only(site("plain"), "PersistentVolumeClaim")["metadata"]["annotations"] == {
        "helm.sh/resource-policy": "keep"
    }
    assert "annotations" not in only(site("state not kept"), "PersistentVolumeClaim")["metadata"]
    assert of_kind(site("everything of a Pod"), "PersistentVolumeClaim") == []


# --- network policies (what they say; whether they hold is the network plugin's) ------------------

DNS = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
DNS_PODS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}


def test_a_site_denies_everything_to_every_pod():
    deny = only(site("plain"), "NetworkPolicy", "segviz-default-deny")
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_trainers_reach_dns_and_the_store_alone():
    spec = only(site("plain"), "NetworkPolicy", "segviz-trainers")["spec"]
    assert spec["podSelector"] == {"matchLabels": {"app.kubernetes.io/managed-by": "segviz-operator"}}
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in spec
    dns, store = spec["egress"]
    assert dns["ports"] == DNS["ports"]
    assert dns["to"] == [DNS_PODS]
    assert store["to"] == [{"ipBlock": {"cidr": "10.1.2.3/32"}}]
    assert [port["port"] for port in store["ports"]] == [443, 9000]


def test_only_the_operator_reaches_the_api_server():
    objects = operator("plain")
    of_operator = only(objects, "NetworkPolicy", "segviz-operator")["spec"]
    of_workloads = only(objects, "NetworkPolicy", "segviz-workloads")["spec"]
    dns, api, store = of_operator["egress"]
    assert api == {
        "to": [{"ipBlock": {"cidr": "10.1.2.4/32"}}],
        "ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 6443}],
    }
    assert dns["to"] == [DNS_PODS]
    assert of_workloads["egress"] == [dns, store]


def test_dns_may_be_an_address_and_pods_of_other_labels():
    for policy in of_kind(operator("air-gapped"), "NetworkPolicy"):
        dns, *_, mesh = policy["spec"]["egress"]
        assert dns["to"] == [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}},
                "podSelector": {"matchLabels": {"dns.operator.openshift.io/daemonset-dns": "default"}},
            },
            {"ipBlock": {"cidr": "169.254.20.10/32"}},
            {"ipBlock": {"cidr": "fd00::a/128"}},
        ]
        assert mesh == MESH
    dns, *_, mesh = only(site("everything of a Pod"), "NetworkPolicy")["spec"]["egress"]
    assert dns["to"][0]["podSelector"] == {"matchLabels": {"dns": "ours"}}
    assert dns["to"][1:] == [{"ipBlock": {"cidr": "169.254.20.10/32"}}]
    assert mesh == MESH


def test_monitoring_alone_may_knock_and_only_at_the_metrics_port():
    monitoring = {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    for policy in of_kind(operator("plain"), "NetworkPolicy"):
        assert policy["spec"]["ingress"] == [
            {
                "from": [{"namespaceSelector": monitoring}],
                "ports": [{"protocol": "TCP", "port": 9090}],
            }
        ]
    for policy in of_kind(operator("air-gapped"), "NetworkPolicy"):
        assert "ingress" not in policy["spec"]


@variants
def test_no_egress_rule_is_open_by_accident(release: Release):
    """A rule without `to` allows every address, and one without `ports` every port."""
    for policy in of_kind(render(release), "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            assert rule.get("ports"), policy["metadata"]["name"]
            assert rule.get("to"), policy["metadata"]["name"]


def test_every_pod_of_a_chart_is_under_a_policy():
    for release in VARIANTS.values():
        objects = render(release)
        if release.values.get("networkPolicy", {}).get("enabled") is False:
            continue
        for each in of_kind(objects, "Deployment", "Job"):
            labels = each["spec"]["template"]["metadata"]["labels"].items()
            assert any(
                policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels
                for policy in of_kind(objects, "NetworkPolicy")
            ), each["metadata"]["name"]


# --- mistakes -------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[str, Values, str]] = {
    "a proxy that nobody reaches": (
        "segviz-site",
        {**SITE["behind a proxy"], "networkPolicy": {"store": {"cidrs": ["10.1.2.3/32"]}}},
        "networkPolicy.proxy: no trainer could reach proxy.url",
    ),
    "a password for no proxy": (
        "segviz-site",
        {**SITE["plain"], "proxy": {"secretName": "the-proxy"}},
        "proxy.secretName: it is of no use without proxy.url",
    ),
    "a key of which nobody is told": (
        "segviz-site",
        {**SITE["plain"], "signing": {"existingSecret": "own"}},
        "signing.publicKey: give it with signing.existingSecret",
    ),
    "a key that nobody holds": (
        "segviz-site",
        {**SITE["plain"], "signing": {"publicKey": "0" * 64}},
        "signing.publicKey: it is of no use without signing.existingSecret",
    ),
    "a key that segviz join makes itself": (
        "segviz-site",
        {
            **SITE["plain"],
            "join": {"secretName": "join"},
            "signing": {"existingSecret": "own", "publicKey": "0" * 64},
        },
        "signing.existingSecret: `segviz join` makes the key",
    ),
    "unknown key": ("segviz-operator", {"replicas": 2}, "replicas"),
    "unknown key below": ("segviz-site", {**SITE["plain"], "trainer": {"imge": {}}}, "imge"),
    "scope": ("segviz-operator", {"scope": "All"}, "/scope"),
    "digest": ("segviz-operator", {"image": {"digest": "sha256:12"}}, "/image/digest"),
    "CIDR": ("segviz-operator", {"networkPolicy": {"store": {"cidrs": ["minio.example"]}}}, "/cidrs/0"),
    "port": ("segviz-site", {"networkPolicy": {"store": {"ports": [0]}}}, "/ports/0"),
    "quantity": (
        "segviz-site",
        {"trainer": {"resources": {"limits": {"memory": "16 GB"}}}},
        "/limits/memory",
    ),
    "pull policy": ("segviz-site", {"trainer": {"image": {"pullPolicy": "Sometimes"}}}, "pullPolicy"),
    "federation without a namespace": (
        "segviz-site",
        {"allowedFederations": ["abdomen"]},
        "allowedFederations/0",
    ),
    "a UID that is none": (
        "segviz-site",
        {"allowedFederations": ["radiology/abdomen@1234"]},
        "allowedFederations/0",
    ),
    "a federation with two UIDs": (
        "segviz-site",
        {
            **SITE["plain"],
            "allowedFederations": [f"radiology/abdomen@{UID}", f"radiology/abdomen@{UID.replace('1', '2')}"],
        },
        "allowedFederations lists radiology/abdomen twice",
    ),
    "a federation with a UID and without": (
        "segviz-site",
        {**SITE["plain"], "allowedFederations": ["radiology/abdomen", f"radiology/abdomen@{UID}"]},
        "allowedFederations lists radiology/abdomen twice",
    ),
    "organ": ("segviz-site", {"dataSets": [{**LIVERS, "organs": {"Liver": [1]}}]}, "Liver"),
    "layout": ("segviz-site", {"dataSets": [{**LIVERS, "layout": "NIfTI"}]}, "/dataSets/0/layout"),
    "data set without organs": ("segviz-site", {"dataSets": [{"name": "a", "layout": "MSD"}]}, "organs"),
    "DICOM without structures": (
        "segviz-site",
        {"dataSets": [{"name": "a", "layout": "DICOM"}]},
        "structures",
    ),
    "release": ("segviz-site", {"release": "All"}, "/release"),
    "role": ("segviz-site", {"role": "Trainer"}, "/role"),
    "noise without a bound": ("segviz-site", {"privacy": {"noiseMultiplier": 1}}, "/privacy"),
    "a budget without noise": ("segviz-site", {"privacy": {"clipNorm": 1, "maxEpsilon": 8}}, "/privacy"),
    "no data set": ("segviz-site", {}, "dataSets: a site has at least one"),
    "no images": ("segviz-site", {"dataSets": [LIVERS]}, "data.existingClaim: name"),
    "two places": (
        "segviz-site",
        {**SITE["plain"], "data": {"existingClaim": "x", "hostPath": {"path": "/x", "allow": True}}},
        "not both",
    ),
    "hostPath by the way": (
        "segviz-site",
        {**SITE["plain"], "data": {"hostPath": {"path": "/x"}}},
        "data.hostPath.allow=true",
    ),
    "claim of a remote site": (
        "segviz-site",
        {**SITE["remote"], "data": {"existingClaim": "x"}},
        "data.existingClaim: with remote=true",
    ),
    "no store (site)": ("segviz-site", {**SITE["plain"], "networkPolicy": {}}, "networkPolicy.store"),
    "a PodMonitor that the policy keeps out": (
        "segviz-site",
        {**SITE["plain"], "monitoring": {"podMonitor": {"enabled": True}}},
        "networkPolicy.metrics.namespace: ",
    ),
    "no store (operator)": ("segviz-operator", {}, "networkPolicy.store"),
    "no API server": (
        "segviz-operator",
        {"networkPolicy": {"store": STORE}},
        "kubectl get endpointslices -n default",
    ),
    "a label of the chart's own": (
        "segviz-operator",
        {"networkPolicy": POLICY, "commonLabels": {"app.kubernetes.io/name": "mine"}},
        "commonLabels: app.kubernetes.io/name is set by this chart",
    ),
    "a label of the site's chart": (
        "segviz-site",
        {**SITE["plain"], "commonLabels": {"helm.sh/chart": "mine"}},
        "commonLabels: helm.sh/chart is set by this chart",
    ),
    "an egress rule for everywhere": (
        "segviz-operator",
        {"networkPolicy": {**POLICY, "extraEgress": [{"ports": MESH["ports"]}]}},
        "/networkPolicy/extraEgress/0",
    ),
    "trial store without an image": (
        "segviz-operator",
        {"trialStore": {"enabled": True}, "networkPolicy": POLICY},
        "trialStore.image",
    ),
    "sites' namespaces under scope Cluster": (
        "segviz-operator",
        {**OPERATOR["plain"], "siteNamespaces": ["basel"]},
        "siteNamespaces belongs to scope Namespaces",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_refused_with_its_name(mistake: tuple[str, Values, str]):
    chart, values, named = mistake
    with pytest.raises(Refused) as refusal:
        render(Release(chart, "x", "x", values))
    assert named in str(refusal.value)
