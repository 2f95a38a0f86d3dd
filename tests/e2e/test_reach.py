"""Who reaches what over the network: every identity, at every address, under the charts' NetworkPolicies.

`reach.md` beside this file is the table for people; it is what was observed, and the test compares it.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from beyond import ANYBODY, LISTEN, METADATA, PORTS, answers, beyond
from hospitals import Hospital, Scene
from install import COORDINATOR, SECURITY, SYSTEM, Installation
from kube import Kube, Object, until
from node import Node

from segviz_operator.cluster.api import names
from segviz_operator.plan.workload import WorkloadRole

TABLE = Path(__file__).with_name("reach.md")
ELSEWHERE, JOINED = "elsewhere", "ticino"
SUBJECT = names.Subject(COORDINATOR, "reach", "00000000-0000-0000-0000-000000000000")
HELD = (9000, 9090)
"""Ports of the Pods that are tried: a store's, which policies let through elsewhere, and metrics'."""
TRY = """\
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

QUESTION = b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\7cluster\\5local\\0\\0\\6\\0\\1"

def reaches(kind, address, port):
    try:
        if kind == "tcp":
            socket.create_connection((address, port), timeout=3).close()
            return True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            asked.settimeout(3)
            asked.connect((address, port))
            asked.send(QUESTION)
            return bool(asked.recv(512))
    except OSError:
        return False

places = json.loads(sys.argv[1])
with ThreadPoolExecutor(32) as pool:
    tried = {name: [pool.submit(reaches, *each) for each in addresses] for name, addresses in places.items()}
    print(json.dumps({name: [each.result() for each in waiting] for name, waiting in tried.items()}))
"""
Places = Mapping[str, list[tuple[str, str, int]]]
"""tcp or udp, address and port, each of which is tried."""


@dataclass(frozen=True)
class Identity:
    namespace: str
    pod: str
    """Or deployment/NAME."""
    labels: Mapping[str, str]
    account: str


def of_role(role: WorkloadRole, namespace: str, account: str, site: str | None = None) -> Identity:
    """With the labels that the operator gives."""
    return Identity(namespace, f"reach-{role.lower()}", names.role_labels(SUBJECT, role, site), account)


@pytest.fixture
def identities(installation: Installation, scene: Scene, kube: Kube) -> Iterator[dict[str, Identity]]:
    basel = scene.hospitals[0]
    for namespace in (ELSEWHERE, JOINED):
        installation.namespace(namespace)
    # Its Pod waits for the join file; what is tried has the labels that the release gives it.
    joined = Hospital(JOINED, basel.data_set, basel.folder)
    installation.site(joined, [f"{COORDINATOR}/reach"], join={"secretName": "never"})
    (job,) = kube.listed("jobs", JOINED)
    yield {
        "trainer": of_role("Trainer", "basel", "segviz-trainer", "basel"),
        "evaluation": of_role("Evaluation", "external", "segviz-trainer", "external"),
        "joined site": Identity(JOINED, "reach-join", labels_of(job), "segviz-trainer"),
        "any other Pod of a site": Identity("basel", "reach-other", {}, "default"),
        "aggregator": of_role("Aggregator", COORDINATOR, "segviz-aggregator"),
        "export": of_role("Export", COORDINATOR, "segviz-aggregator"),
        "operator": Identity(SYSTEM, "deployment/segviz-operator", {}, ""),
        "a Pod without policies": Identity(ELSEWHERE, "reach-free", {}, "default"),
    }
    installation.helm.uninstall(JOINED, JOINED)
    kube.delete("namespace", JOINED, JOINED)
    kube.delete("namespace", ELSEWHERE, ELSEWHERE)


@pytest.fixture
def pods(installation: Installation, identities: dict[str, Identity], kube: Kube) -> Iterator[dict[str, str]]:
    """The addresses of a trainer of another site, and of a Pod that belongs to nobody here."""
    held = {
        "trainer": of_role("Trainer", "bern", "segviz-trainer", "bern"),
        "free": Identity(ELSEWHERE, "reach-held", {}, "default"),
    }
    started = [each for each in (*identities.values(), *held.values()) if "/" not in each.pod]
    kube.apply(*(pod(each, installation.images.aggregator) for each in started))
    for each in started:
        where = (f"pod/{each.pod}", f"--namespace={each.namespace}")
        kube.run("wait", "--for=condition=Ready", *where, "--timeout=120s", seconds=130)
    yield {name: address_of(kube, each) for name, each in held.items()}
    for each in started:
        kube.delete("pod", each.pod, each.namespace, force=True)


def labels_of(job: Object) -> dict[str, str]:
    """Its Pod's, save those by which the Job would take another Pod for its own."""
    own = ("batch.kubernetes.io/", "controller-uid", "job-name")
    labels = job["spec"]["template"]["metadata"]["labels"]
    return {name: value for name, value in labels.items() if not name.startswith(own)}


def pod(identity: Identity, image: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": identity.pod, "namespace": identity.namespace, "labels": identity.labels},
        "spec": {
            "serviceAccountName": identity.account,
            "automountServiceAccountToken": False,
            "securityContext": SECURITY["pod"],
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "idle",
                    "image": image,
                    "command": ["python", "-c", LISTEN, *map(str, HELD)],
                    "securityContext": SECURITY["container"],
                }
            ],
        },
    }


def address_of(kube: Kube, identity: Identity) -> str:
    found = kube.get("pod", identity.pod, identity.namespace)
    assert found is not None
    address: str = found["status"]["podIP"]
    return address


def places(installation: Installation, kube: Kube, pods: Mapping[str, str]) -> Places:
    store = installation.store
    service = kube.get("service", "kubernetes", "default")
    endpoints = kube.get("endpoints", "kubernetes", "default")
    assert service is not None
    assert endpoints is not None
    api = endpoints["subsets"][0]
    return {
        "DNS": [(kind, store.host, 53) for kind in ("udp", "tcp")],
        "store": [("tcp", store.host, 9000)],
        "API server": [
            ("tcp", service["spec"]["clusterIP"], 443),
            ("tcp", api["addresses"][0]["ip"], api["ports"][0]["port"]),
        ],
        "metadata address": [("tcp", METADATA, port) for port in PORTS],
        "another site's Pod": [("tcp", pods["trainer"], port) for port in HELD],
        "a Pod elsewhere": [("tcp", pods["free"], port) for port in HELD],
        "outside": [("tcp", ANYBODY, port) for port in PORTS],
    }


def row(kube: Kube, identity: Identity, tried: Places) -> list[str]:
    where = (identity.pod, f"--namespace={identity.namespace}")
    said = kube.run("exec", *where, "--", "python", "-c", TRY, json.dumps(tried), seconds=60)
    return [cell(reached) for reached in json.loads(said).values()]


def cell(reached: list[bool]) -> str:
    return "yes" if all(reached) else "some" if any(reached) else "no"


def table(kube: Kube, identities: Mapping[str, Identity], tried: Places) -> str:
    lines = [f"| identity | {' | '.join(tried)} |", "|---" * (len(tried) + 1) + "|"]
    with ThreadPoolExecutor(4) as pool:
        rows = pool.map(lambda each: row(kube, each, tried), identities.values())
        lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in zip(identities, rows, strict=True)]
    return "\n".join(lines) + "\n"


def test_every_identity_at_every_place(
    node: Node, installation: Installation, kube: Kube, identities: dict[str, Identity], pods: dict[str, str]
) -> None:
    expected = "| identity" + TABLE.read_text(encoding="utf-8").partition("| identity")[2]
    with beyond(node):
        # They listen: what no Pod reaches is kept from it.
        assert all(answers(address, port) for address in pods.values() for port in HELD)
        tried = places(installation, kube, pods)
        seen: list[str] = []

        def as_expected() -> bool:
            # The network plugin needs a moment for new Pods.
            seen.append(table(kube, identities, tried))
            return seen[-1] == expected

        try:
            until("the table", 20, as_expected)
        except AssertionError:
            assert seen[-1] == expected
