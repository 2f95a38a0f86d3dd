"""A site in a cluster of its own: what its release holds, and that its Pod is a local trainer's otherwise."""

from typing import Any

import pytest
import yaml

from builders.rendered import JOIN, SITE, Object, Refused, Release, Values, of_kind, render
from segviz_exchange.contract import choices
from segviz_exchange.contract import spec as s
from segviz_exchange.process.exits import Exit
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.objects.hosting import Host
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.cluster.objects.site_job import build_site_job
from segviz_operator.manifests.manifest import Site, parse
from segviz_operator.plan.decide import CreateWorkload
from segviz_operator.plan.workload import WorkloadRole

every = pytest.mark.parametrize("values", JOIN.values(), ids=JOIN)
STORE = s.StoreSpec(
    "https://minio.example:9000",
    "segviz",
    "us-east-1",
    s.SecretRef("bucket"),
    choices.CredentialSource.ASSUME_ROLE,
    3600,
    s.Retention(rounds=2),
)


def release(values: Values) -> list[Object]:
    return render(Release("segviz-site", "basel", "basel", values))


def job_of(values: Values) -> Object:
    (job,) = of_kind(release(values), "Job")
    return job


def pod_of(job: Object) -> Object:
    pod: Object = job["spec"]["template"]["spec"]
    return pod


def manifest_of(objects: list[Object]) -> Site:
    (file,) = of_kind(objects, "ConfigMap")
    site = parse(yaml.safe_load(file["data"]["site.yaml"]))
    assert isinstance(site, Site)
    return site


def local_pod(values: Values) -> Object:
    """What the operator would make of the same values beside it."""
    (site,) = of_kind(release({**values, "join": {}, "signing": {}}), "SegVizSite")
    parsed = parse(site)
    assert isinstance(parsed, Site)
    consent = Owner("rbac.authorization.k8s.io/v1", "RoleBinding", "consent", "uid")
    action = CreateWorkload(WorkloadRole.TRAINER, "basel", 1)
    subject = Subject("radiology", "abdomen", "1234-uid")
    host = Host("basel", "basel", "basel", consent, parsed.spec)
    return pod_of(build_site_job(subject, action, STORE, host, 1))


@every
def test_nothing_needs_an_operator_a_crd_or_a_right(values: Values) -> None:
    kinds = {each["kind"] for each in release(values)}
    assert {"ConfigMap", "Job", "NetworkPolicy"} <= kinds
    others = {"ServiceAccount", "PersistentVolumeClaim", "PodMonitor"}
    assert kinds <= {"ConfigMap", "Job", "NetworkPolicy"} | others
    assert pod_of(job_of(values))["automountServiceAccountToken"] is False


@every
def test_the_file_is_a_manifest_that_join_takes(values: Values) -> None:
    site = manifest_of(release(values))
    assert site.spec.remote
    assert [each.key for each in site.spec.allowed_federations] == ["radiology/abdomen"]
    assert not site.spec.suspend


@every
def test_its_pod_is_a_local_trainers_but_for_the_join_file(values: Values) -> None:
    joined, local = pod_of(job_of(values)), local_pod(values)
    own = ("containers", "volumes", "terminationGracePeriodSeconds")
    assert {key: value for key, value in joined.items() if key not in own} == {
        key: value for key, value in local.items() if key not in own
    }
    assert joined["terminationGracePeriodSeconds"] > local["terminationGracePeriodSeconds"]
    ((container,), (trainer,)) = joined["containers"], local["containers"]
    for key in ("image", "imagePullPolicy", "securityContext", "ports"):
        assert container[key] == trainer[key], key
    assert texts(container["resources"]) == texts(trainer["resources"])

    def places(pod: Object, each: Object) -> dict[str, Any]:
        sources = {volume["name"]: volume for volume in pod["volumes"]}
        return {
            mount["mountPath"]: (mount.get("readOnly", False), sources[mount["name"]])
            for mount in each["volumeMounts"]
        }

    # It has the store's credentials from its join file, and the site's policy from its own manifest.
    elsewhere = {"/segviz/store", "/segviz/policy"}
    theirs = {path: place for path, place in places(local, trainer).items() if path not in elsewhere}
    ours = places(joined, container)
    assert theirs.items() <= ours.items()
    assert set(ours) - set(theirs) == {"/segviz/join", "/segviz/site"}
    assert all(read_only for read_only, _ in (ours["/segviz/join"], ours["/segviz/site"]))


def texts(resources: Object) -> Object:
    return {kind: {name: str(value) for name, value in each.items()} for kind, each in resources.items()}


@every
def test_policies_and_monitors_know_its_pod(values: Values) -> None:
    objects = release(values)
    labels = job_of(values)["spec"]["template"]["metadata"]["labels"].items()
    selecting = [
        each["spec"].get("podSelector") or each["spec"].get("selector")
        for each in of_kind(objects, "NetworkPolicy", "PodMonitor")
        if each["metadata"]["name"] != "segviz-default-deny"
    ]
    assert selecting
    assert all(selector["matchLabels"].items() <= labels for selector in selecting)


def test_behind_a_proxy_the_proxy_is_the_only_way_out() -> None:
    (policy,) = [
        each
        for each in of_kind(release(JOIN["joining behind a proxy"]), "NetworkPolicy")
        if each["metadata"]["name"] == "segviz-trainers"
    ]
    _dns, way = policy["spec"]["egress"]
    assert way == {
        "to": [{"ipBlock": {"cidr": "10.1.2.4/32"}}],
        "ports": [{"protocol": "TCP", "port": 3128}],
    }
    objects = release(JOIN["joining behind a proxy"])
    proxy = manifest_of(objects).spec.proxy
    assert proxy is not None
    assert proxy.url == "http://proxy.hospital.example:3128"
    (container,) = pod_of(job_of(JOIN["joining behind a proxy"]))["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment["SEGVIZ_STORE_PROXY_SECRET"] == "/segviz/proxy"


def test_a_change_makes_another_job_and_the_same_values_the_same() -> None:
    def name(**changes: Any) -> str:
        found: str = job_of({**JOIN["joining"], **changes})["metadata"]["name"]
        return found

    assert name() == name()
    assert (
        len({name(), name(release="Heads"), name(trainer={"resources": {"limits": {"memory": "9Gi"}}})}) == 3
    )


def test_an_end_of_join_means_what_its_exit_code_says() -> None:
    rules = job_of(JOIN["joining"])["spec"]["podFailurePolicy"]["rules"]
    ends = {
        code: rule["action"]
        for rule in rules
        if "onExitCodes" in rule
        for code in rule["onExitCodes"]["values"]
    }
    assert ends == {int(Exit.SUPERSEDED): "FailJob", 130: "Ignore"}
    assert {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]} in rules


MISTAKES: dict[str, tuple[Values, str]] = {
    "on both sides at once": ({"remote": True, "data": {}}, "join.secretName: with remote=true nothing runs"),
    "without consent": (
        {"allowedFederations": []},
        "allowedFederations: name the federation of the join file",
    ),
    "with keys of its own": ({"storeSecret": "own"}, "storeSecret: with join.secretName the credentials are"),
    "with a label of the Job's": (
        {"trainer": {"podMetadata": {"labels": {"app.kubernetes.io/name": "ours"}}}},
        "trainer.podMetadata.labels: app.kubernetes.io/name is the Job's own",
    ),
    "with an annotation of the Job's": (
        {"trainer": {"podMetadata": {"annotations": {"kueue.x-k8s.io/queue": "ours"}}}},
        "trainer.podMetadata.annotations: kueue.x-k8s.io/queue is the Job's own",
    ),
}


@pytest.mark.parametrize(("changes", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told(changes: Values, said: str) -> None:
    with pytest.raises(Refused, match=said):
        release({**SITE["plain"], "join": {"secretName": "join"}, **changes})
