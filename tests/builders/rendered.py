"""The charts as a cluster would get them: every variant of values, rendered by the real Helm."""

import json
import subprocess
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from integration.built import built_tool

TOP = Path(__file__).parents[2]
CHARTS = TOP / "charts"
KUBERNETES = "1.34.4"

Object = dict[str, Any]
Values = dict[str, Any]

STORE = {"cidrs": ["10.1.2.3/32"]}
POLICY = {"store": STORE, "apiServer": {"cidrs": ["10.1.2.4/32"]}}
"""All that the operator's chart must be told of the network."""
MESH = {
    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "istio-system"}}}],
    "ports": [{"protocol": "TCP", "port": 15012}],
}
MIRROR = "registry.hospital.example/mirror"
DIGEST = f"sha256:{'0123456789abcdef' * 4}"

ANY_CLUSTER: Values = {
    "commonLabels": {"cost-centre": "4711"},
    "extraObjects": [
        {
            "apiVersion": "external-secrets.io/v1",
            "kind": "ExternalSecret",
            "metadata": {
                "name": "store",
                "namespace": "{{ .Release.Namespace }}",
                "labels": {
                    "app.kubernetes.io/instance": "{{ .Release.Name }}",
                    "app.kubernetes.io/managed-by": "{{ .Release.Service }}",
                },
            },
        }
    ],
}

OPERATOR: dict[str, Values] = {
    "plain": {"networkPolicy": POLICY},
    "namespaces": {
        "scope": "Namespaces",
        "federationNamespaces": ["radiology", "oncology"],
        "siteNamespaces": ["basel", "bern"],
        "rbac": {"aggregate": False},
        "networkPolicy": POLICY,
    },
    "many federation namespaces": {
        "federationNamespaces": ["radiology", "oncology"],
        "networkPolicy": POLICY,
    },
    "air-gapped": {
        "image": {"registry": "registry.hospital.example/mirror/", "digest": DIGEST},
        "imagePullSecrets": ["mirror"],
        "aggregator": {
            "image": {"registry": "registry.hospital.example/mirror", "tag": "2"},
            "imagePullSecrets": ["mirror"],
            "nodeSelector": {"pool": "cpu"},
            "tolerations": [{"key": "pool", "operator": "Exists"}],
            "priorityClassName": "low",
        },
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.hospital.example:3128"}],
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "pool", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "low",
        "podLabels": {"team": "radiology"},
        "podAnnotations": {"note": "x"},
        "serviceAccount": {"name": "other", "annotations": {"note": "x"}},
        "networkPolicy": {
            "store": {"peers": [{"namespaceSelector": {"matchLabels": {"name": "minio"}}}], "ports": [443]},
            "apiServer": {"cidrs": ["10.96.0.1/32", "fd00::1/128"], "ports": [6443]},
            "dns": {
                "namespace": "openshift-dns",
                "podLabels": {"dns.operator.openshift.io/daemonset-dns": "default"},
                "cidrs": ["169.254.20.10/32", "fd00::a/128"],
                "ports": [53, 5353],
            },
            "extraEgress": [MESH],
            "metrics": {"namespace": ""},
        },
    },
    "trial store": {
        "trialStore": {"enabled": True, "image": "trial-store:1"},
        "networkPolicy": {"apiServer": POLICY["apiServer"]},
    },
    "trial store on a volume": {
        "trialStore": {"enabled": True, "image": "trial-store:1", "size": "10Gi", "storageClassName": "fast"},
        "networkPolicy": {"apiServer": POLICY["apiServer"]},
    },
    "trial store with keys of its own": {
        "trialStore": {"enabled": True, "image": "trial-store:1", "existingSecret": "keys"},
        "networkPolicy": {"apiServer": POLICY["apiServer"]},
    },
    "any cluster": {
        **ANY_CLUSTER,
        "userAssignment": "ByCluster",
        "webIdentity": {"stsEndpoint": "https://sts.example", "roleArn": "arn:aws:iam::1:role/segviz"},
        "admissionPolicy": {"enabled": True},
        "aggregator": {
            "queueName": "cpus",
            "podMetadata": {"labels": {"team": "ct"}, "annotations": {"sidecar.istio.io/inject": "false"}},
            "serviceAccount": {"annotations": {"note": "x"}},
        },
        "export": {"queueName": "cpus"},
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca", "readOnly": True}],
        "podLabels": {"app.kubernetes.io/name": "mine", "team": "ct"},
        "trialStore": {"enabled": True, "image": "trial-store:1"},
        "networkPolicy": POLICY,
    },
    "no policies": {"networkPolicy": {"enabled": False}},
    "admission policy": {"admissionPolicy": {"enabled": True}, "networkPolicy": POLICY},
    "admission policy for one store": {
        "admissionPolicy": {"enabled": True, "stores": ["https://minio.example:9000/segviz"]},
        "networkPolicy": POLICY,
    },
    "monitored": {
        "monitoring": {
            "annotations": True,
            "service": {"enabled": True},
            "serviceMonitor": {"enabled": True, "additionalLabels": {"release": "prometheus"}},
            "podMonitor": {"enabled": True},
            "dashboards": {"enabled": True},
            "rules": {"enabled": True},
        },
        "networkPolicy": POLICY,
    },
}

UID = "11111111-2222-3333-4444-555555555555"
LIVERS = {"name": "livers", "layout": "MSD", "organs": {"liver": [1, 2]}}
_SITE: Values = {
    "allowedFederations": ["radiology/abdomen"],
    "dataSets": [LIVERS],
    "data": {"existingClaim": "images"},
    "networkPolicy": {"store": STORE},
}
SITE: dict[str, Values] = {
    "plain": _SITE,
    "no federation": {**_SITE, "allowedFederations": []},
    "many federations": {**_SITE, "allowedFederations": ["radiology/abdomen", "oncology/chest.v2"]},
    "limits": {
        **_SITE,
        "allowedFederations": [
            f"radiology/abdomen@{UID}",
            f"oncology/abdomen@{UID.replace('1', '2')}",
            "oncology/chest.v2",
            f"radiology/abdomen@{UID}",
        ],
        "limits": {
            "algorithms": ["FedBN"],
            "objectives": ["PerOrganHead"],
            "starts": ["Seeded"],
            "maxRounds": 100,
            "minCases": 20,
            "minSteps": 100,
        },
    },
    "monitored": {
        **_SITE,
        "monitoring": {"podMonitor": {"enabled": True}},
        "networkPolicy": {"store": STORE, "metrics": {"namespace": "monitoring"}},
    },
    "evaluation": {**_SITE, "role": "Evaluation", "scores": "PerCase"},
    "remote": {"allowedFederations": ["radiology/abdomen"], "dataSets": [LIVERS], "remote": True},
    "many data sets": {
        **_SITE,
        "dataSets": [
            {**LIVERS, "path": "task03", "background": [7], "cases": {"start": 0, "stop": 90}},
            {"name": "spleens", "layout": "List", "organs": {"spleen": [1], "left-kidney": [2]}},
        ],
        "split": {"train": 80, "validation": 10, "test": 10},
        "onBadCase": "Skip",
        "release": "HeadsAndNorm",
        "fingerprint": "Summary",
    },
    "hostPath": {**_SITE, "data": {"hostPath": {"path": "/srv/images", "allow": True}}},
    "everything of a Pod": {
        **_SITE,
        "name": "basel-ct",
        "suspend": True,
        "split": {"train": 80, "validation": 10, "test": 10},
        "privacy": {"clipNorm": 1.5, "noiseMultiplier": 10, "delta": 1e-6, "maxEpsilon": 40},
        "signing": {"existingSecret": "own-signing", "publicKey": "0" * 64},
        "storeSecret": "own-keys",
        "storeSecretKeys": {"accessKey": "AWS_ACCESS_KEY_ID", "secretKey": "AWS_SECRET_ACCESS_KEY"},
        "serviceAccount": {"create": False, "name": "ours"},
        "operator": {"namespace": "segviz", "serviceAccountName": "other"},
        "state": {"existingClaim": "state"},
        "trainer": {
            "image": {
                "registry": "registry.hospital.example/mirror",
                "digest": DIGEST,
                "pullPolicy": "Always",
            },
            "imagePullSecrets": ["mirror"],
            "resources": {
                "requests": {"cpu": 4, "memory": "16Gi"},
                "limits": {"memory": "32Gi", "nvidia.com/mig-1g.10gb": 1},
            },
            "nodeSelector": {"gpu": "a100"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "low",
            "runtimeClassName": "nvidia",
            "queueName": "gpus",
            "podMetadata": {
                "labels": {"team": "radiology"},
                "annotations": {"sidecar.istio.io/inject": "false", "cost": "1e3"},
            },
            "supplementalGroups": [4711],
        },
        "networkPolicy": {
            "store": {"cidrs": [], "peers": [{"podSelector": {"matchLabels": {"app": "minio"}}}]},
            "dns": {"podLabels": {"dns": "ours"}, "cidrs": ["169.254.20.10/32"]},
            "extraEgress": [MESH],
            "metrics": {"namespace": "monitoring"},
            "wholeNamespace": False,
        },
    },
    "behind a proxy": {
        **_SITE,
        "proxy": {"url": "http://proxy.hospital.example:3128", "secretName": "the-proxy"},
        "networkPolicy": {"proxy": {"cidrs": ["10.1.2.4/32"]}},
    },
    "any cluster": {
        **_SITE,
        **ANY_CLUSTER,
        "trainer": {"userAssignment": "ByCluster", "idleRelease": {"afterSeconds": 600}},
        "serviceAccount": {"annotations": {"note": "x"}},
    },
    "no policies": {**_SITE, "networkPolicy": {"enabled": False}},
    "state not kept": {
        **_SITE,
        "state": {"keep": False, "storageClassName": "fast", "size": "2Ti", "accessModes": ["ReadWriteMany"]},
    },
}

_JOIN: Values = {**_SITE, "join": {"secretName": "join"}}
JOIN: dict[str, Values] = {
    "joining": _JOIN,
    "joining behind a proxy": {**SITE["behind a proxy"], **{"join": {"secretName": "join"}}},
    "joining with everything of a Pod": {
        **SITE["everything of a Pod"],
        "join": {"secretName": "join"},
        "storeSecret": "",
        "signing": {"publicKey": "0" * 64},
        "suspend": False,
    },
    "joining with ids of the cluster": {**_JOIN, "trainer": {"userAssignment": "ByCluster"}},
    "joining, monitored": {**SITE["monitored"], "join": {"secretName": "join"}},
}
"""Sites in a cluster of their own: what is there besides Pods and policies is no object of ours."""


@dataclass(frozen=True)
class Release:
    chart: str
    name: str
    namespace: str
    values: Values

    def __str__(self) -> str:
        return f"{self.chart} {self.name}"


VARIANTS = {
    **{
        f"segviz-operator: {name}": Release("segviz-operator", "segviz", "segviz-system", values)
        for name, values in OPERATOR.items()
    },
    **{
        f"segviz-site: {name}": Release("segviz-site", "basel", "basel", values)
        for name, values in (SITE | JOIN).items()
    },
}


class Refused(Exception):
    """What Helm says."""


def helm(*arguments: str, values: Mapping[str, Any]) -> str:
    # As JSON: PyYAML leaves 1e3 without quotes, which is a number to Helm.
    return _helm(arguments, json.dumps(dict(values)))


class UniqueKeys(yaml.CSafeLoader):
    """Refuses a mapping with a key twice; a plain loader takes the later of the two without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            problem = f"there more than once: {', '.join(twice)}"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def render(release: Release) -> list[Object]:
    arguments = ("template", release.name, str(CHARTS / release.chart), "--namespace", release.namespace)
    text = helm(*arguments, "--kube-version", KUBERNETES, values=release.values)
    return [each for each in yaml.load_all(text, UniqueKeys) if each]


def lint(release: Release) -> str:
    return helm(
        "lint", "--strict", str(CHARTS / release.chart), "--kube-version", KUBERNETES, values=release.values
    )


@cache
def _helm(arguments: tuple[str, ...], values: str) -> str:
    """Asked once for each variant, since many tests look at one."""
    done = subprocess.run(
        [str(built_tool("helm")), *arguments, "--values", "-"],
        input=values,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    if done.returncode:
        raise Refused(done.stdout + done.stderr)
    return done.stdout


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]
