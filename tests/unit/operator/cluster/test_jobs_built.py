"""What the operator makes: Jobs and Secrets as functions of what is wanted."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from builders.small_specs import site_spec
from segviz_exchange.contract import choices
from segviz_exchange.contract import spec as s
from segviz_exchange.contract.site_spec import (
    ClaimSource,
    FederationRef,
    PodMetadata,
    ProxySecretRef,
    Resources,
    SiteProxy,
    SiteSpec,
    State,
    Toleration,
    TrainerPod,
    Volume,
)
from segviz_exchange.stores.credentials import Credentials
from segviz_operator.cluster.api.names import Subject, consent_name, job_name, label_value, secret_name
from segviz_operator.cluster.credentials.store_access import Granted
from segviz_operator.cluster.credentials.store_secret import Recipient, build_store_secret, secret_seen
from segviz_operator.cluster.objects.federation_job import build_federation_job
from segviz_operator.cluster.objects.hosting import Host, spec_digest
from segviz_operator.cluster.objects.jobs import job_seen
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.cluster.objects.site_job import build_site_job
from segviz_operator.plan.decide import CreateWorkload
from segviz_operator.plan.workload import WorkloadRole as Role

SUBJECT = Subject("radiology", "abdomen", "1234-uid")
CONSENT = Owner("rbac.authorization.k8s.io/v1", "RoleBinding", consent_name("radiology", "abdomen"), "rb")
FEDERATION = Owner("segviz.dev/v1alpha1", "SegVizFederation", "abdomen", "1234-uid")
STORE = s.StoreSpec(
    "https://minio.example:9000",
    "segviz",
    "eu-central-1",
    choices.CredentialSource.ASSUME_ROLE,
    3600,
    s.Retention(rounds=2),
    s.SecretRef("bucket"),
    s.CABundle(s.KeyRef("ca", "ca.crt")),
)
SETTINGS = TrainerPod(choices.ImagePullPolicy.IF_NOT_PRESENT, "registry.example/aggregator@sha256:0")
POD = TrainerPod(
    choices.ImagePullPolicy.ALWAYS,
    image="registry.example/trainer@sha256:1",
    image_pull_secrets=("pull",),
    service_account_name="trainer",
    resources=Resources({"cpu": 4}, {"nvidia.com/gpu": 1}),
    node_selector={"gpu": "a100"},
    tolerations=(Toleration(key="gpu", operator="Exists"),),
    affinity={"nodeAffinity": {}},
    priority_class_name="high",
    runtime_class_name="nvidia",
)


def site(**changes: object) -> SiteSpec:
    state = State(ClaimSource("state"))
    volume = Volume(persistent_volume_claim=ClaimSource("data"))
    return site_spec(("liver",), **{"trainer": POD, "state": state, "volume": volume, **changes})


def host(**changes: object) -> Host:
    return Host("basel", "hospital-basel", "livers", CONSENT, site(**changes))


def trainer(attempt: int = 1, **changes: object) -> dict:
    action = CreateWorkload(Role.TRAINER, "basel", attempt, failures=2, milestone=7)
    return build_site_job(SUBJECT, action, STORE, host(**changes), threads=3)


def evaluation() -> dict:
    action = CreateWorkload(Role.EVALUATION, "basel", 1)
    return build_site_job(SUBJECT, action, STORE, host(), threads=3)


def aggregator() -> dict:
    return build_federation_job(
        SUBJECT, CreateWorkload(Role.AGGREGATOR, None, 1), STORE, FEDERATION, SETTINGS, 1
    )


def export() -> dict:
    return build_federation_job(SUBJECT, CreateWorkload(Role.EXPORT, None, 1), STORE, FEDERATION, SETTINGS, 1)


JOBS = {"trainer": trainer, "evaluation": evaluation, "aggregator": aggregator, "export": export}


def pod_of(job: dict) -> dict:
    found: dict = job["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("build", JOBS.values(), ids=JOBS)
def test_every_pod_meets_pod_security_restricted(build):
    pod = pod_of(build())
    security = pod["securityContext"]
    assert (security["runAsNonRoot"], security["runAsUser"], security["fsGroup"]) == (True, 65532, 65532)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    allowed = {"secret", "emptyDir", "persistentVolumeClaim", "configMap"}
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} <= allowed


def test_ids_may_be_the_clusters_to_give():
    by_cluster = msgspec.structs.replace(POD, user_assignment=choices.UserAssignment.BY_CLUSTER)
    pod = pod_of(trainer(trainer=by_cluster))
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    (store,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "store"]
    assert store["defaultMode"] == 0o444
    (store,) = [volume["secret"] for volume in pod_of(trainer())["volumes"] if volume["name"] == "store"]
    assert store["defaultMode"] == 0o440


@pytest.mark.parametrize("build", [trainer, evaluation])
def test_what_may_leave_is_read_from_the_sites_own_object(build):
    pod = pod_of(build())
    (source,) = [each["configMap"] for each in pod["volumes"] if each["name"] == "policy"]
    assert source == {"name": "livers-policy", "optional": True}
    (container,) = pod["containers"]
    assert {"name": "policy", "mountPath": "/segviz/policy", "readOnly": True} in container["volumeMounts"]
    assert {"name": "SEGVIZ_SITE_POLICY", "value": "/segviz/policy/policy.json"} in container["env"]


@pytest.mark.parametrize("build", JOBS.values(), ids=JOBS)
def test_what_a_pod_writes_beside_its_volumes_is_bounded(build):
    scratch = [each["emptyDir"] for each in pod_of(build())["volumes"] if "emptyDir" in each]
    assert scratch
    assert all("sizeLimit" in each for each in scratch)


@pytest.mark.parametrize("build", JOBS.values(), ids=JOBS)
def test_kubernetes_repeats_nothing_and_gives_no_token(build):
    job = build()
    assert (job["spec"]["backoffLimit"], pod_of(job)["restartPolicy"]) == (0, "Never")
    assert pod_of(job)["automountServiceAccountToken"] is False
    assert "ttlSecondsAfterFinished" not in job["spec"]


def test_the_sites_proxy_reaches_its_pods_with_its_secret():
    proxy = SiteProxy("http://proxy.example:3128", ProxySecretRef("the-proxy"))
    pod = pod_of(trainer(proxy=proxy))
    (container,) = pod["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    (volume,) = [each for each in pod["volumes"] if each["name"] == "proxy"]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "proxy"]
    assert environment["SEGVIZ_STORE_PROXY"] == proxy.url
    assert environment["SEGVIZ_STORE_PROXY_SECRET"] == mount["mountPath"]
    assert (volume["secret"]["secretName"], mount["readOnly"]) == ("the-proxy", True)
    without = pod_of(trainer(proxy=SiteProxy(proxy.url)))["containers"][0]
    assert "SEGVIZ_STORE_PROXY_SECRET" not in {each["name"] for each in without["env"]}
    assert "proxy" not in {each["name"] for each in without["volumeMounts"]}


@pytest.mark.parametrize(("role", "build"), JOBS.items(), ids=JOBS)
def test_a_disruption_is_no_failure_and_a_refusal_is_one(role: str, build: Callable[[], dict]):
    spec = build()["spec"]
    refused, disrupted, stopped = spec["podFailurePolicy"]["rules"]
    assert disrupted == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    assert [(rule["action"], rule["onExitCodes"]["values"]) for rule in (refused, stopped)] == [
        ("FailJob", [2]),
        ("Ignore", [75]),
    ]
    (container,) = spec["template"]["spec"]["containers"]
    assert {rule["onExitCodes"]["containerName"] for rule in (refused, stopped)} == {container["name"], role}
    assert spec["podReplacementPolicy"] == "Failed"


def test_a_pod_has_the_time_that_its_site_gives_it_to_stop():
    longer = msgspec.structs.replace(POD, termination_grace_period_seconds=600)
    assert pod_of(trainer())["terminationGracePeriodSeconds"] == 120
    job = trainer(trainer=longer)
    assert pod_of(job)["terminationGracePeriodSeconds"] == 600
    seen = job_seen({**job, "metadata": {**job["metadata"], "uid": "job"}})
    assert seen is not None
    assert seen.grace_seconds == 600


@pytest.mark.parametrize("build", JOBS.values(), ids=JOBS)
def test_a_job_is_read_back_as_it_was_meant(build):
    job = build()
    metadata = {**job["metadata"], "uid": "job"}
    seen = job_seen({**job, "metadata": metadata})
    assert seen is not None
    labels = metadata["labels"]
    assert (seen.role.lower(), seen.site) == (labels["segviz.dev/role"], labels.get("segviz.dev/site"))
    assert (seen.failures, seen.milestone) == ((2, 7) if seen.role is Role.TRAINER else (0, 0))
    assert seen.owner == (FEDERATION if seen.site is None else CONSENT)


@pytest.mark.parametrize("build", JOBS.values(), ids=JOBS)
def test_the_log_of_a_site_is_never_taken_for_why_its_pod_ended(build):
    """It may name patients' files; the operator repeats a termination message in status and Events."""
    (container,) = pod_of(build())["containers"]
    of_site = build in (trainer, evaluation)
    assert container["terminationMessagePolicy"] == ("File" if of_site else "FallbackToLogsOnError")


def test_a_trainer_runs_where_and_as_its_site_says():
    pod = pod_of(trainer())
    assert pod["nodeSelector"] == {"gpu": "a100"}
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert (pod["priorityClassName"], pod["runtimeClassName"]) == ("high", "nvidia")
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    (container,) = pod["containers"]
    assert container["resources"] == {"requests": {"cpu": "4"}, "limits": {"nvidia.com/gpu": "1"}}
    assert container["imagePullPolicy"] == "Always"
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert (environment["OMP_NUM_THREADS"], environment["AWS_REGION"]) == ("3", "eu-central-1")
    assert environment["SEGVIZ_STORE_CA"] == "/segviz/store/ca.crt"
    arguments = container["args"]
    assert arguments[:3] == ["-m", "segviz_trainer", "participate"]
    assert arguments[arguments.index("--prefix") + 1] == "radiology/abdomen-1234-uid/"
    assert arguments[arguments.index("--state") + 1] == "/state/1234-uid"


def test_a_site_adds_to_its_pod_and_replaces_nothing_of_the_operators():
    added = PodMetadata({"team": "radiology", "segviz.dev/site": "other"}, {"note": "x"})
    job = trainer(trainer=msgspec.structs.replace(POD, pod_metadata=added, supplemental_groups=(4711,)))
    metadata, plain = job["spec"]["template"]["metadata"], trainer()["spec"]["template"]["metadata"]
    assert metadata["labels"] == {"team": "radiology", **plain["labels"]}
    assert metadata["annotations"] == {"note": "x"}
    assert "annotations" not in plain
    assert pod_of(job)["securityContext"]["supplementalGroups"] == [4711]
    assert "supplementalGroups" not in pod_of(trainer())["securityContext"]


def test_images_are_mounted_read_only_and_state_is_not():
    mounts = {each["name"]: each for each in pod_of(trainer())["containers"][0]["volumeMounts"]}
    assert mounts["data"]["readOnly"] is True
    assert "readOnly" not in mounts["state"]


def test_a_queued_job_waits_for_kueue():
    pod = msgspec.structs.replace(POD, queue_name="gpus")
    job = trainer(trainer=pod)
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "suspend" not in trainer()["spec"]


def test_names_differ_by_attempt_alias_and_incarnation_and_fit():
    again = Subject("radiology", "abdomen", "another-uid")
    names = {
        job_name(subject, Role.TRAINER, alias, attempt)
        for subject in (SUBJECT, again)
        for alias in ("a" * 63, "a" * 62 + "b")
        for attempt in (1, 2)
    }
    assert len(names) == 8
    assert all(len(name) <= 63 for name in names)
    assert len(label_value("x" * 253)) <= 63


def test_consent_and_suspension_elsewhere_restart_nothing_and_an_image_does():
    base = site()
    elsewhere = msgspec.structs.replace(
        base, allowed_federations=(FederationRef("other", "one"),), suspend=True
    )
    newer = msgspec.structs.replace(POD, image="registry.example/trainer@sha256:2")
    assert spec_digest(elsewhere) == spec_digest(base)
    assert spec_digest(msgspec.structs.replace(base, trainer=newer)) != spec_digest(base)


def test_a_secret_holds_what_the_pod_reads_and_says_when_it_is_due():
    half = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
    secret = build_store_secret(
        SUBJECT,
        Recipient.at(host(), Role.TRAINER),
        Granted(Credentials("key", "secret"), half),
        "PEM",
    )
    assert secret["metadata"]["name"] == secret_name(SUBJECT, "basel", Role.TRAINER)
    files = {name: base64.b64decode(value) for name, value in secret["data"].items()}
    assert sorted(files) == ["ca.crt", "credentials.json", "site.json"]
    assert json.loads(files["credentials.json"])["accessKey"] == "key"
    assert msgspec.json.decode(files["site.json"], type=SiteSpec) == site()
    seen = secret_seen(secret)
    assert not seen.is_due(half.replace(hour=11), seen.content_digest)
    assert seen.is_due(half, seen.content_digest)
    assert seen.is_due(half.replace(hour=11), "another spec")
