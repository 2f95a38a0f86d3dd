"""Admission policies on a real API server: the operator's token lets in Jobs of its own making alone."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from integration.guarded import AGGREGATOR, EXPORT, NOBODYS, SITE, SYSTEM, TRAINER, VARIANTS, Guarded, Json

pytest.importorskip("kubernetes")
from kubernetes.client import ApiException, BatchV1Api

Change = Callable[[Json], object]
"""Of a Job."""


def pod_of(job: Json) -> Json:
    found: Json = job["spec"]["template"]["spec"]
    return found


def in_pod(**fields: Any) -> Change:
    return lambda job: pod_of(job).update(fields)


def in_main(**fields: Any) -> Change:
    return lambda job: pod_of(job)["containers"][0].update(fields)


def in_metadata(part: str, key: str, value: str) -> Change:
    return lambda job: job["spec"]["template"]["metadata"].setdefault(part, {}).update({key: value})


def security(**fields: Any) -> Change:
    return lambda job: pod_of(job)["securityContext"].update(fields)


def confinement(**fields: Any) -> Change:
    return lambda job: pod_of(job)["containers"][0]["securityContext"].update(fields)


def environment(name: str, **source: Any) -> Change:
    def change(job: Json) -> None:
        container = pod_of(job)["containers"][0]
        container["env"] = [each for each in container["env"] if each["name"] != name]
        container["env"].append({"name": name, **source})

    return change


def argument(name: str, value: str) -> Change:
    def change(job: Json) -> None:
        words = pod_of(job)["containers"][0]["args"]
        words[words.index(name) + 1] = value

    return change


def volume(name: str, source: Json) -> Change:
    """A further volume, or another one in the place of one that is there."""

    def change(job: Json) -> None:
        volumes = pod_of(job)["volumes"]
        volumes[:] = [*(each for each in volumes if each["name"] != name), {"name": name, **source}]

    return change


def mount(name: str, **fields: Any) -> Change:
    def change(job: Json) -> None:
        (found,) = [each for each in pod_of(job)["containers"][0]["volumeMounts"] if each["name"] == name]
        found.update(fields)

    return change


def without_mount(name: str) -> Change:
    def change(job: Json) -> None:
        mounts = pod_of(job)["containers"][0]["volumeMounts"]
        mounts[:] = [each for each in mounts if each["name"] != name]

    return change


def without_environment(name: str) -> Change:
    def change(job: Json) -> None:
        variables = pod_of(job)["containers"][0]["env"]
        variables[:] = [each for each in variables if each["name"] != name]

    return change


def further_mount(name: str, path: str) -> Change:
    return lambda job: pod_of(job)["containers"][0]["volumeMounts"].append({"name": name, "mountPath": path})


def changed(job: Json, change: Change) -> Json:
    foreign = copy.deepcopy(job)
    change(foreign)
    return foreign


ONE_CONTAINER = "one Pod with one container"
METADATA = "labels and those of spec.trainer.podMetadata"
COMMAND = "and no other command"
HOOKS = "no lifecycle hooks, probes, devices or terminal"
ENVIRONMENT = "the environment that its code writes"
CONTAINER_SECURITY = "operator's containers have the securityContext"
POD_SECURITY = "operator's Pods have the securityContext"
NODE = "have nothing of the node"
PLACES = "mounts store, tmp, data, state and policy at their places"

ANYWHERE: dict[str, tuple[Change, str]] = {
    "a second container": (
        lambda job: pod_of(job)["containers"].append({"name": "more", "image": "other:1"}),
        ONE_CONTAINER,
    ),
    "an init container": (in_pod(initContainers=[{"name": "first", "image": "other:1"}]), ONE_CONTAINER),
    "many Pods": (lambda job: job["spec"].update(parallelism=9, completions=9), ONE_CONTAINER),
    "a Pod that no network policy knows": (
        lambda job: job["spec"]["template"]["metadata"]["labels"].pop("app.kubernetes.io/managed-by"),
        "network policies",
    ),
    "a label of its own": (in_metadata("labels", "istio.io/rev", "x"), METADATA),
    "a network of its own": (
        in_metadata("annotations", "k8s.v1.cni.cncf.io/networks", "outside"),
        METADATA,
    ),
    "a shell": (in_main(command=["sh"]), COMMAND),
    "the image's own command": (lambda job: pod_of(job)["containers"][0].pop("command"), COMMAND),
    "a script": (in_main(args=["-c", "import os", "x"]), COMMAND),
    "no arguments": (in_main(args=[]), COMMAND),
    "a working directory": (in_main(workingDir="/data"), COMMAND),
    "a hook after the start": (
        in_main(lifecycle={"postStart": {"exec": {"command": ["sh", "-c", "cp -r /data /tmp"]}}}),
        HOOKS,
    ),
    "a hook before the end": (in_main(lifecycle={"preStop": {"exec": {"command": ["sh"]}}}), HOOKS),
    "a probe that runs a command": (in_main(livenessProbe={"exec": {"command": ["sh"]}}), HOOKS),
    "another probe": (in_main(readinessProbe={"exec": {"command": ["sh"]}}), HOOKS),
    "a probe at the start": (in_main(startupProbe={"exec": {"command": ["sh"]}}), HOOKS),
    "a terminal": (in_main(stdin=True, tty=True), HOOKS),
    "a message file elsewhere": (in_main(terminationMessagePath="/data/message"), HOOKS),
    "another name in the environment": (environment("LD_PRELOAD", value="/tmp/x.so"), ENVIRONMENT),
    "code at Python's start": (environment("PYTHONSTARTUP", value="/tmp/x.py"), ENVIRONMENT),
    "Python's path": (environment("PYTHONPATH", value="/state"), ENVIRONMENT),
    "another value": (environment("HOME", value="/state"), ENVIRONMENT),
    "threads that are no number": (environment("OMP_NUM_THREADS", value="1;x"), ENVIRONMENT),
    "a proxy of its own": (environment("SEGVIZ_STORE_PROXY", value="http://evil.example:3128"), ENVIRONMENT),
    "a region that is no name": (environment("AWS_REGION", value="x y"), ENVIRONMENT),
    "code from the working directory": (
        lambda job: pod_of(job)["containers"][0].update(
            env=[each for each in pod_of(job)["containers"][0]["env"] if each["name"] != "PYTHONSAFEPATH"]
        ),
        ENVIRONMENT,
    ),
    "a value from a Secret": (
        environment("HOME", valueFrom={"secretKeyRef": {"name": "registry", "key": "x"}}),
        ENVIRONMENT,
    ),
    "a Secret as environment": (in_main(envFrom=[{"secretRef": {"name": "registry"}}]), ENVIRONMENT),
    "root": (security(runAsUser=0, runAsNonRoot=False), POD_SECURITY),
    "another user": (security(runAsUser=1000), POD_SECURITY),
    "another group": (security(fsGroup=0), POD_SECURITY),
    "more groups": (security(supplementalGroups=[0]), POD_SECURITY),
    "no seccomp": (security(seccompProfile={"type": "Unconfined"}), POD_SECURITY),
    "kernel parameters": (
        security(sysctls=[{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]),
        POD_SECURITY,
    ),
    "a privileged container": (
        confinement(privileged=True, allowPrivilegeEscalation=True),
        "securityContext",  # a server that allows no such container at all says so first
    ),
    "escalation": (confinement(allowPrivilegeEscalation=True), CONTAINER_SECURITY),
    "a capability": (confinement(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}), CONTAINER_SECURITY),
    "capabilities that are kept": (confinement(capabilities={}), CONTAINER_SECURITY),
    "a root that can be written": (confinement(readOnlyRootFilesystem=False), CONTAINER_SECURITY),
    "root in the container": (confinement(runAsUser=0, runAsNonRoot=False), CONTAINER_SECURITY),
    "no seccomp in the container": (
        confinement(seccompProfile={"type": "Unconfined"}),
        CONTAINER_SECURITY,
    ),
    "the node's network": (in_pod(hostNetwork=True), NODE),
    "the node's processes": (in_pod(hostPID=True), NODE),
    "the node's IPC": (in_pod(hostIPC=True), NODE),
    "a port of the node": (
        lambda job: pod_of(job)["containers"][0]["ports"][0].update(hostPort=9090),
        NODE,
    ),
    "a node": (in_pod(nodeName="control-plane"), NODE),
    "a scheduler": (in_pod(schedulerName="mine"), NODE),
    "names of its own": (in_pod(hostAliases=[{"ip": "192.0.2.1", "hostnames": ["minio"]}]), NODE),
    "a name server of its own": (
        in_pod(dnsPolicy="None", dnsConfig={"nameservers": ["192.0.2.1"]}),
        NODE,
    ),
    "a token": (in_pod(automountServiceAccountToken=True), "without the token"),
    "Secrets in the place of code": (further_mount("store", "/usr/lib/python3"), PLACES),
    "a part of a volume": (mount("tmp", subPath="x"), PLACES),
    "credentials that can be written": (mount("store", readOnly=False), PLACES),
}

VOLUMES = "mounts the volumes that its SegVizSite names"
POLICY = "release, scores, privacy and limits from the site's own ConfigMap"
ARGUMENTS = "with the arguments that its code writes"
SCHEDULE = "scheduled as spec.trainer says"
OTHER_UID = "99999999-2222-3333-4444-555555555555"

AT_A_SITE: dict[str, tuple[Change, str]] = {
    "another image": (in_main(image="other:1"), "runs spec.trainer.image"),
    "another module": (
        lambda job: pod_of(job)["containers"][0]["args"].__setitem__(1, "pip"),
        ARGUMENTS,
    ),
    "another task": (
        lambda job: pod_of(job)["containers"][0]["args"].__setitem__(2, "export"),
        ARGUMENTS,
    ),
    "one more argument": (lambda job: pod_of(job)["containers"][0]["args"].append("--help"), ARGUMENTS),
    "a federation that the site does not allow": (
        argument("--prefix", f"{SYSTEM}/other-{OTHER_UID}/"),
        ARGUMENTS,
    ),
    "a prefix of no federation": (argument("--prefix", "anything/"), ARGUMENTS),
    "a folder as store": (argument("--store", "/data"), ARGUMENTS),
    "a store that is not allowed": (argument("--store", "s3://evil.example/segviz"), ARGUMENTS),
    "another site's name": (argument("--site", "bern"), ARGUMENTS),
    "another site's spec": (argument("--site-spec", "/tmp/site.json"), ARGUMENTS),
    "another federation's state": (argument("--state", f"/state/{OTHER_UID}"), ARGUMENTS),
    "the whole state": (argument("--state", "/state"), ARGUMENTS),
    "state as images": (argument("--data-root", "/state"), ARGUMENTS),
    "nobody's": (lambda job: job["metadata"].pop("ownerReferences"), "belong to the consent"),
    "another object's": (
        lambda job: job["metadata"]["ownerReferences"][0].update(kind="ConfigMap", apiVersion="v1"),
        "belong to the consent",
    ),
    "another consent's": (
        lambda job: job["metadata"]["ownerReferences"][0].update(name="segviz:consent:a:b"),
        "belong to the consent",
    ),
    "another account": (in_pod(serviceAccountName="default"), "spec.trainer.serviceAccountName"),
    "a log as last words": (
        in_main(terminationMessagePolicy="FallbackToLogsOnError"),
        "no log is taken for a termination message",
    ),
    "images that can be written": (mount("data", readOnly=False), PLACES),
    "images whose claim can be written": (
        volume("data", {"persistentVolumeClaim": {"claimName": "images"}}),
        VOLUMES,
    ),
    "another claim as images": (
        volume("data", {"persistentVolumeClaim": {"claimName": "patients", "readOnly": True}}),
        VOLUMES,
    ),
    "images as state": (volume("state", {"persistentVolumeClaim": {"claimName": "images"}}), VOLUMES),
    "another claim": (volume("more", {"persistentVolumeClaim": {"claimName": "patients"}}), VOLUMES),
    "another Secret": (volume("store", {"secret": {"secretName": "registry"}}), VOLUMES),
    "a Secret as the proxy's": (volume("proxy", {"secret": {"secretName": "registry"}}), VOLUMES),
    "a Secret as the site's key": (volume("key", {"secret": {"secretName": "registry"}}), VOLUMES),
    "a key that somebody else has left": (
        environment("SEGVIZ_SIGNING_KEY", value="/data/private.pem"),
        ENVIRONMENT,
    ),
    "a coordinator by another file": (environment("SEGVIZ_PARTY", value="/data/party.json"), ENVIRONMENT),
    "a join file": (volume("store", {"secret": {"secretName": "segviz-join-basel-1"}}), VOLUMES),
    "a scratch without a limit": (volume("tmp", {"emptyDir": {}}), VOLUMES),
    "a scratch in memory": (volume("tmp", {"emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}}), VOLUMES),
    "another policy": (volume("policy", {"configMap": {"name": "kube-root-ca.crt"}}), VOLUMES),
    "another file as policy": (
        volume(
            "policy",
            {"configMap": {"name": "basel-policy", "items": [{"key": "x", "path": "policy.json"}]}},
        ),
        VOLUMES,
    ),
    "a policy from its own Secret": (volume("policy", {"secret": {"secretName": "segviz-store-x"}}), VOLUMES),
    "no policy": (without_mount("policy"), POLICY),
    "a policy that is not read": (without_environment("SEGVIZ_SITE_POLICY"), POLICY),
    "a ConfigMap": (volume("more", {"configMap": {"name": "kube-root-ca.crt"}}), VOLUMES),
    "the node's files": (volume("data", {"hostPath": {"path": "/"}}), VOLUMES),
    "a token as a file": (
        volume("store", {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}),
        VOLUMES,
    ),
    "another value of a site's label": (in_metadata("labels", "team", "cardiology"), METADATA),
    "another value of a site's annotation": (
        in_metadata("annotations", "sidecar.istio.io/inject", "false"),
        METADATA,
    ),
    "a group beside the site's": (security(supplementalGroups=[4711, 42]), POD_SECURITY),
    "none of the site's groups": (security(supplementalGroups=[]), POD_SECURITY),
    "another registry's keys": (in_pod(imagePullSecrets=[{"name": "other"}]), SCHEDULE),
    "another node": (in_pod(nodeSelector={"node-role.kubernetes.io/control-plane": ""}), SCHEDULE),
    "a node that is tainted": (in_pod(tolerations=[{"operator": "Exists"}]), SCHEDULE),
    "priority": (in_pod(priorityClassName="system-node-critical"), SCHEDULE),
    "a runtime": (in_pod(runtimeClassName="none"), SCHEDULE),
    "a queue": (
        lambda job: job["metadata"]["labels"].update({"kueue.x-k8s.io/queue-name": "fast"}),
        SCHEDULE,
    ),
    "more memory": (
        in_main(resources={"limits": {"memory": "900Gi"}, "requests": {"memory": "8Gi", "cpu": "2"}}),
        "ask for spec.trainer.resources",
    ),
    "a GPU": (in_main(resources={"limits": {"nvidia.com/gpu": "8"}}), "ask for spec.trainer.resources"),
    "no role": (lambda job: job["metadata"]["labels"].pop("segviz.dev/role"), ARGUMENTS),
    "another role": (
        lambda job: job["metadata"]["labels"].update({"segviz.dev/role": "aggregator"}),
        ARGUMENTS,
    ),
}

BESIDE: dict[str, tuple[Change, str]] = {
    "another image": (in_main(image="other:1"), "run the images of the operator's release"),
    "another account": (in_pod(serviceAccountName="segviz-operator"), "as segviz-aggregator"),
    "another module": (
        lambda job: pod_of(job)["containers"][0]["args"].__setitem__(1, "pip"),
        "have the arguments",
    ),
    "another namespace's records": (
        argument("--prefix", f"oncology/abdomen-{OTHER_UID}/"),
        "have the arguments",
    ),
    "a store that is not allowed": (argument("--store", "s3://evil.example/segviz"), "have the arguments"),
    "nobody's": (lambda job: job["metadata"].pop("ownerReferences"), "belong to their federation"),
    "the coordinator's Secret": (
        volume("store", {"secret": {"secretName": "bucket"}}),
        "mount the operator's own Secret",
    ),
    "a claim": (
        volume("data", {"persistentVolumeClaim": {"claimName": "any"}}),
        "mount the operator's own Secret",
    ),
    "the node's files": (volume("tmp", {"hostPath": {"path": "/"}}), "mount the operator's own Secret"),
    "another role": (
        lambda job: job["metadata"]["labels"].update({"segviz.dev/role": "trainer"}),
        "makes aggregators and exports",
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_job_that_the_operator_builds_for_a_site_is_let_in(guarded: Guarded, variant: str):
    for job in guarded.variants[variant]:
        guarded.create(job)


@pytest.mark.parametrize("name", [AGGREGATOR, EXPORT])
def test_every_job_that_the_operator_builds_beside_a_federation_is_let_in(guarded: Guarded, name: str):
    guarded.create(guarded.jobs[name])


def refuse(guarded: Guarded, job: Json, says: str) -> None:
    with pytest.raises(ApiException) as refusal:
        guarded.create(job)
    assert refusal.value.status == 422, refusal.value.body
    assert says in refusal.value.body


@pytest.mark.parametrize("name", [TRAINER, AGGREGATOR, EXPORT])
@pytest.mark.parametrize(("change", "says"), ANYWHERE.values(), ids=ANYWHERE)
def test_what_the_operators_code_never_builds_is_refused(
    guarded: Guarded, change: Change, says: str, name: str
):
    refuse(guarded, changed(guarded.jobs[name], change), says)


@pytest.mark.parametrize(("change", "says"), AT_A_SITE.values(), ids=AT_A_SITE)
def test_what_the_site_did_not_say_is_refused(guarded: Guarded, change: Change, says: str):
    refuse(guarded, changed(guarded.jobs[TRAINER], change), says)


@pytest.mark.parametrize(("change", "says"), BESIDE.values(), ids=BESIDE)
def test_beside_federations_the_releases_settings_hold(guarded: Guarded, change: Change, says: str):
    refuse(guarded, changed(guarded.jobs[AGGREGATOR], change), says)


@pytest.mark.parametrize("name", [TRAINER, AGGREGATOR])
def test_where_neither_site_nor_federation_is_nothing_is_let_in(guarded: Guarded, name: str):
    elsewhere = changed(guarded.jobs[name], lambda job: job["metadata"].update(namespace=NOBODYS))
    refuse(guarded, elsewhere, "no params found")


def test_others_are_not_held_to_it(guarded: Guarded):
    foreign = changed(guarded.jobs[TRAINER], in_main(image="anything"))
    BatchV1Api(guarded.apiserver.client()).create_namespaced_job(SITE, foreign, dry_run="All")
