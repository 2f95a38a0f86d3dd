"""The parts that every Pod of a federation shares: what PodSecurity `restricted` asks for, and its Secret."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from segviz_exchange.contract.choices import UserAssignment
from segviz_exchange.contract.site_spec import PodMetadata, TrainerPod
from segviz_exchange.contract.spec import StoreSpec
from segviz_exchange.process.exits import Exit
from segviz_exchange.stores.opening import PARTY
from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.names import Subject
from segviz_operator.manifests.digest import digest
from segviz_operator.plan.command_line import (
    Records,
    RunFolders,
    SiteFolders,
    command_line,
    module_of,
    store_environment,
    threads_environment,
)
from segviz_operator.plan.decide import CreateWorkload
from segviz_operator.plan.workload import WorkloadRole

USER = 65532
STORE_FOLDER = "/segviz/store"
POLICY_FOLDER = "/segviz/policy"
POLICY_FILE = "policy.json"
CREDENTIALS_FILE = "credentials.json"
SITE_FILE = "site.json"
CA_FILE = "ca.crt"
PARTY_FILE = "party.json"
KEY_FOLDER = "/segviz/key"
KEY_ENTRY = "private.pem"
"""Of a Secret that holds a signing key."""
METRICS_PORT = 9090
_SCRATCH_AT_A_SITE = "4Gi"
"""A site's work is in its state; a Pod that writes more beside it is evicted before the disk is full."""
_SCRATCH_BESIDE = "64Gi"
"""Of the aggregator and the export: one round's updates, and the models that are made of them."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Owner:
    """With whom the garbage collector deletes what the operator made, and no operator is needed for it."""

    api_version: str
    kind: str
    name: str
    uid: str

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Owner":
        metadata = raw["metadata"]
        return cls(raw["apiVersion"], raw["kind"], metadata["name"], metadata["uid"])

    def reference(self) -> Json:
        return {"apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid}


@dataclass(frozen=True)
class Mount:
    name: str
    path: str
    source: Json
    read_only: bool = False


@dataclass(frozen=True)
class Draft:
    """A Job's own part of its description."""

    subject: Subject
    action: CreateWorkload
    namespace: str
    owner: Owner
    store: StoreSpec
    pod: TrainerPod
    arguments: tuple[str, ...]
    threads: int
    mounts: tuple[Mount, ...] = ()
    annotations: Json = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    """Beside what every Pod has."""
    signed: bool = False
    """Whether the federation's records are."""


def build_job(draft: Draft) -> Json:
    """One attempt: `decide` counts the failures, so Kubernetes repeats only what was no fault of the Pod."""
    action = draft.action
    labels = {
        **names.role_labels(draft.subject, action.role, action.site),
        names.ATTEMPT: str(action.attempt),
    }
    queued = draft.pod.queue_name is not None
    spec: Json = {
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": _failure_rules(action.role)},
        # Two Pods of one site would share its state: the old one ends before the next one begins.
        "podReplacementPolicy": "Failed",
        "template": {"metadata": _pod_metadata(draft.pod, labels), "spec": build_pod(draft)},
    }
    if queued:
        spec["suspend"] = True  # Kueue starts it when its turn comes
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.job_name(draft.subject, action.role, action.site, action.attempt),
            "namespace": draft.namespace,
            "labels": {**labels, names.QUEUE: draft.pod.queue_name} if queued else labels,
            "annotations": {
                names.FAILURES: str(action.failures),
                names.MILESTONE: str(action.milestone),
                names.STORE_DIGEST: store_digest(draft.store),
                **draft.annotations,
            },
            "ownerReferences": [draft.owner.reference()],
        },
        "spec": spec,
    }


def store_digest(store: StoreSpec) -> str:
    """Of what a Pod is told of its store when it begins; keys and CA are files that are read again."""
    return digest((store.url, store.region, store.ca_bundle is not None))


def _pod_metadata(pod: TrainerPod, own: dict[str, str]) -> Json:
    """The site's, under what the operator finds its Pods by."""
    added = pod.pod_metadata or PodMetadata()
    metadata: Json = {"labels": {**(added.labels or {}), **own}}
    return {**metadata, "annotations": added.annotations} if added.annotations else metadata


def _failure_rules(role: WorkloadRole) -> list[Json]:
    """What an end of the Pod means for its Job; any other end fails the Job, and `decide` counts it.

    Drain, preemption and eviction are the cluster's doing, and a process that was asked to stop has lost
    nothing: in both cases the Job makes another Pod. A superseded process is not among these, for it would
    take the lease back. `FailJob` stands for a refusal alone, so that a Job whose Pod is gone still says it.
    """
    container = role.lower()

    def exits(action: str, code: Exit) -> Json:
        values = {"containerName": container, "operator": "In", "values": [int(code)]}
        return {"action": action, "onExitCodes": values}

    return [
        exits("FailJob", Exit.REFUSED),
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        exits("Ignore", Exit.STOPPED),
    ]


def build_pod(draft: Draft) -> Json:
    pod, at_a_site = draft.pod, draft.action.site is not None
    mounts = (
        Mount(
            "store",
            STORE_FOLDER,
            {"secret": {"secretName": _secret(draft), "defaultMode": secret_mode(pod)}},
            read_only=True,
        ),
        Mount(
            "tmp", "/tmp", {"emptyDir": {"sizeLimit": _SCRATCH_AT_A_SITE if at_a_site else _SCRATCH_BESIDE}}
        ),
        *draft.mounts,
    )
    optional: Json = {
        "serviceAccountName": pod.service_account_name,
        "nodeSelector": pod.node_selector,
        "tolerations": [msgspec.to_builtins(each) for each in pod.tolerations],
        "affinity": pod.affinity,
        "priorityClassName": pod.priority_class_name,
        "runtimeClassName": pod.runtime_class_name,
        "imagePullSecrets": [{"name": name} for name in pod.image_pull_secrets],
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": pod.termination_grace_period_seconds,
        "securityContext": _security(pod),
        "containers": [_container(draft, mounts)],
        "volumes": [{"name": mount.name, **mount.source} for mount in mounts],
        **{name: value for name, value in optional.items() if value},
    }


def _security(pod: TrainerPod) -> Json:
    """Without ids where the cluster gives them: OpenShift's restricted-v2 refuses any but its own."""
    ids = {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER, "fsGroupChangePolicy": "OnRootMismatch"}
    return {
        "runAsNonRoot": True,
        **(ids if _has_own_user(pod) else {}),
        "seccompProfile": {"type": "RuntimeDefault"},
        **({"supplementalGroups": list(pod.supplemental_groups)} if pod.supplemental_groups else {}),
    }


def secret_mode(pod: TrainerPod) -> int:
    """For its group, which may be none that the process has where the cluster gives the ids."""
    return 0o440 if _has_own_user(pod) else 0o444


def _has_own_user(pod: TrainerPod) -> bool:
    return pod.user_assignment is UserAssignment.FIXED


def _container(draft: Draft, mounts: tuple[Mount, ...]) -> Json:
    container: Json = {
        "name": draft.action.role.lower(),
        "image": draft.pod.image,
        "imagePullPolicy": str(draft.pod.image_pull_policy),
        "command": ["python"],
        "args": list(draft.arguments),
        "env": [{"name": name, "value": value} for name, value in _environment(draft).items()],
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        # An exit code and the last words are all that `decide` asks of a Pod that has ended. A site's log is
        # its own, and may name patients' files: of it only what the trainer itself says for others.
        "terminationMessagePolicy": "File" if draft.action.site else "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": mount.name, "mountPath": mount.path, **({"readOnly": True} if mount.read_only else {})}
            for mount in mounts
        ],
    }
    resources = draft.pod.resources
    asked = {} if resources is None else {"requests": resources.requests, "limits": resources.limits}
    if any(asked.values()):
        container["resources"] = {
            name: {resource: str(quantity) for resource, quantity in each.items()}
            for name, each in asked.items()
            if each
        }
    return container


def _environment(draft: Draft) -> dict[str, str]:
    ca = None if draft.store.ca_bundle is None else f"{STORE_FOLDER}/{CA_FILE}"
    policy = {"SEGVIZ_SITE_POLICY": f"{POLICY_FOLDER}/{POLICY_FILE}"} if draft.action.site else {}
    return {
        **store_environment(f"{STORE_FOLDER}/{CREDENTIALS_FILE}", draft.store.region, ca),
        **threads_environment(draft.threads),
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",
        "SEGVIZ_LOG_FORMAT": "json",
        "SEGVIZ_METRICS_PORT": str(METRICS_PORT),
        "HOME": "/tmp",
        **policy,
        **({PARTY: f"{STORE_FOLDER}/{PARTY_FILE}"} if draft.signed else {}),
        **draft.environment,
    }


def _secret(draft: Draft) -> str:
    return names.secret_name(draft.subject, draft.action.site, draft.action.role)


def pod_command(
    subject: Subject, role: WorkloadRole, store: StoreSpec, folders: SiteFolders | RunFolders
) -> tuple[str, ...]:
    records = Records(store.url, subject.prefix)
    return ("-m", module_of(role), *command_line(role, records, folders))
