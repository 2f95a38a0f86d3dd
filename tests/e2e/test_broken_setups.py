"""Set-ups that are broken on purpose: `kubectl describe` and `segviz doctor` soon name the cause."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from federation import KIND, Federation, Make
from hospitals import Scene
from install import BUCKET, COORDINATOR, RESTRICTED, STORE_SECRET, SYSTEM, Installation, allowed
from kube import Kube, KubectlFailed, until
from late_store import late_store
from node import Node
from test_remote import ALIAS, Outside, hospital, join_secret

pytestmark = pytest.mark.full
__all__ = ["hospital"]

SEGVIZ = Path(sys.executable).with_name("segviz")
CAUSE_SECONDS = 120
NAME, SITE = "broken", "chur"
TAINT = "segviz.dev/broken"
ENFORCED = "SEGVIZ_E2E_POLICIES_ENFORCED"


@dataclass(frozen=True)
class Ground:
    kube: Kube
    installation: Installation
    scene: Scene

    @contextmanager
    def site(self, **values: Any) -> Iterator[None]:
        """The site with these values, and as it was afterwards."""
        found = next(each for each in self.scene.hospitals if each.name == SITE)
        self.installation.site(found, values.pop("allowedFederations", allowed()), **values)
        try:
            yield
        finally:
            self.installation.site(found, allowed())


Break = Callable[[Ground], AbstractContextManager[dict[str, Any]]]
"""Breaks something; gives what the federation's spec says otherwise."""


@pytest.fixture(scope="module")
def ground(installation: Installation, scene: Scene, kube: Kube) -> Iterator[Ground]:
    """With an operator that calls a Pod stuck after 20 s."""
    installation.operator(stuckAfterSeconds=20)
    yield Ground(kube, installation, scene)
    installation.operator()


@contextmanager
def quota(ground: Ground) -> Iterator[dict[str, Any]]:
    limit = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none-left", "namespace": SITE},
        "spec": {"hard": {"pods": "0"}},
    }
    ground.kube.apply(limit)
    try:
        yield {}
    finally:
        ground.kube.delete("resourcequota", "none-left", SITE)


@contextmanager
def no_claim(ground: Ground) -> Iterator[dict[str, Any]]:
    with ground.site(data={"existingClaim": "nowhere"}):
        yield {}


@contextmanager
def wrong_image(ground: Ground) -> Iterator[dict[str, Any]]:
    image = {"registry": "", "repository": "nowhere.example/none", "tag": "1"}
    with ground.site(trainer={**ground.installation.trainer_values(), "image": image}):
        yield {}


@contextmanager
def no_consent(ground: Ground) -> Iterator[dict[str, Any]]:
    others = [each for each in allowed() if each != f"{COORDINATOR}/{NAME}"]
    with ground.site(allowedFederations=others):
        yield {}


@contextmanager
def taint(ground: Ground) -> Iterator[dict[str, Any]]:
    ground.kube.run("taint", "nodes", "--all", f"{TAINT}=yes:NoSchedule")
    try:
        yield {}
    finally:
        ground.kube.run("taint", "nodes", "--all", f"{TAINT}-")


@contextmanager
def no_store_secret(ground: Ground) -> Iterator[dict[str, Any]]:
    yield {"store": {**store_of(ground), "secretRef": {"name": "nowhere"}}}


@contextmanager
def clock_off(ground: Ground) -> Iterator[dict[str, Any]]:
    with late_store(ground.installation.store.endpoint) as endpoint:
        yield {"store": {**store_of(ground), "endpoint": endpoint}}


@contextmanager
def no_gpu(ground: Ground) -> Iterator[dict[str, Any]]:
    resources = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"nvidia.com/gpu": 1}}
    with ground.site(trainer=ground.installation.trainer_values(resources=resources)):
        yield {}


@contextmanager
def pod_security(ground: Ground) -> Iterator[dict[str, Any]]:
    """The namespace enforces `restricted`, and the images are in a folder of the node."""
    assert RESTRICTED["pod-security.kubernetes.io/enforce"] == "restricted"
    with ground.site(data={"existingClaim": "", "hostPath": {"path": "/srv", "allow": True}}):
        yield {}


@contextmanager
def policy_denies_store(ground: Ground) -> Iterator[dict[str, Any]]:
    if "SEGVIZ_CLUSTER_DIR" not in os.environ and ENFORCED not in os.environ:
        pytest.skip(
            f"whether this cluster enforces NetworkPolicies is not known; if it does, set {ENFORCED}=1"
        )
    with ground.site(networkPolicy={"store": {"cidrs": ["192.0.2.1/32"]}}):
        yield {}


def store_of(ground: Ground) -> dict[str, Any]:
    endpoint = ground.installation.store.endpoint
    return {"endpoint": endpoint, "bucket": BUCKET, "secretRef": {"name": STORE_SECRET}}


BROKEN: dict[str, tuple[Break, str]] = {
    "a quota that is used up": (quota, "exceeded quota"),
    "no claim with images": (no_claim, "nowhere"),
    "an image that is not there": (wrong_image, "nowhere.example/none"),
    "no consent": (no_consent, "has not consented"),
    "a taint that nobody tolerates": (taint, "untolerated taint"),
    "no Secret for the store": (no_store_secret, f"Secret {COORDINATOR}/nowhere does not exist"),
    "a clock that is off": (clock_off, "clock is"),
    "no GPU": (no_gpu, "nvidia.com/gpu"),
    "PodSecurity": (pod_security, "PodSecurity"),
    "a policy that keeps the store out": (policy_denies_store, "NetworkPolicies"),
}


def said_by_kubectl(federation: Federation) -> str:
    where = (KIND, federation.name, f"--namespace={federation.namespace}")
    try:
        return federation.kube.run("describe", *where)
    except KubectlFailed as error:
        return str(error)


def said_by_doctor(federation: Federation) -> str:
    words = (SEGVIZ, "doctor", "-n", federation.namespace, federation.name)
    wide = {**os.environ, "COLUMNS": "1000"}
    done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=120, env=wide)
    return done.stdout + done.stderr


@pytest.mark.parametrize(("broken", "cause"), BROKEN.values(), ids=BROKEN)
def test_the_cause_is_named(make: Make, ground: Ground, broken: Break, cause: str) -> None:
    with broken(ground) as changes:
        federation = make(NAME, **changes)
        federation.apply()
        until(f"kubectl names {cause}", CAUSE_SECONDS, lambda: cause in said_by_kubectl(federation))
        until(f"doctor names {cause}", CAUSE_SECONDS, lambda: cause in said_by_doctor(federation))
        federation.delete(seconds=300)


def test_a_store_whose_name_cannot_be_looked_up(make: Make, ground: Ground, kube: Kube, node: Node) -> None:
    """DNS is cut: the store has a name of the cluster's, which nobody answers for."""
    name = f"store.{SYSTEM}.svc.cluster.local"
    with node.away("coredns"):
        federation = make(NAME, store={**store_of(ground), "endpoint": f"http://{name}:9000"})
        federation.apply()
        cause = "StoreUnavailable"
        until(f"kubectl names {cause}", CAUSE_SECONDS, lambda: cause in said_by_kubectl(federation))
        until(f"doctor names {cause}", CAUSE_SECONDS, lambda: cause in said_by_doctor(federation))
        federation.delete(seconds=300)


def test_a_join_file_that_has_expired_says_who_can_give_another(
    make: Make, kube: Kube, hospital: Any, tmp_path: Path
) -> None:
    federation = make("remote", rounds=3)
    federation.apply(sites=("basel", ALIAS))
    invitation = json.loads(until("geneva's join file", 90, lambda: join_secret(kube, federation, ALIAS)))
    invitation["credentials"] |= {"secretKey": "of-yesterday", "expiration": "2026-01-01T00:00:00+00:00"}
    manifest = kube.get("segvizsites.segviz.dev", ALIAS, ALIAS)
    assert manifest is not None
    laptop = Outside(tmp_path).join(json.dumps(invitation).encode(), manifest)
    try:
        said, _ = laptop.communicate(timeout=CAUSE_SECONDS)
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode() if isinstance(late.stdout, bytes) else late.stdout or ""
    finally:
        laptop.kill()
    assert "expired at 2026-01-01" in said
    assert "new join file" in said
    until(
        "the coordinator sees who is missing",
        CAUSE_SECONDS,
        lambda: "segviz join" in said_by_kubectl(federation),
    )
