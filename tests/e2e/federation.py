"""One federation in the cluster: its manifest, and what can be seen of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bucket import Prefix, StoreAddress
from hospitals import Scene
from install import BUCKET, COORDINATOR, STORE_SECRET, SYSTEM
from kube import Kube, KubectlFailed, Object, until

KIND = "segvizfederations.segviz.dev"
COMPLETE_SECONDS = 300.0


@dataclass
class Federation:
    kube: Kube
    store: StoreAddress
    scene: Scene
    name: str
    changes: Object = field(default_factory=dict)
    """Of spec, over the scene's."""
    namespace: str = COORDINATOR

    def manifest(self, sites: Sequence[str] | None = None, **changes: Any) -> Object:
        members = self.scene.training if sites is None else sites
        spec = {
            "sites": [member(alias) for alias in members],
            **self.scene.spec,
            "evaluation": {"sites": [member(alias) for alias in self.scene.evaluating]},
            "store": {
                "endpoint": self.store.endpoint,
                "bucket": BUCKET,
                "secretRef": {"name": STORE_SECRET},
            },
            **self.changes,
            **changes,
        }
        return {
            "apiVersion": "segviz.dev/v1alpha1",
            "kind": "SegVizFederation",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        }

    def apply(self, sites: Sequence[str] | None = None, **changes: Any) -> None:
        self.kube.apply(self.manifest(sites, **changes))

    def object(self) -> Object | None:
        return self.kube.get(KIND, self.name, self.namespace)

    def status(self) -> Object:
        found = self.object()
        return (found or {}).get("status") or {}

    def condition(self, type_: str) -> Object:
        conditions = self.status().get("conditions") or ()
        return next((each for each in conditions if each["type"] == type_), {})

    def holds(self, type_: str) -> bool:
        return self.condition(type_).get("status") == "True"

    def site(self, alias: str) -> Object:
        return next((each for each in self.status().get("sites") or () if each["alias"] == alias), {})

    def wait_for(self, type_: str, seconds: float = COMPLETE_SECONDS) -> None:
        def ended_or_holds() -> bool:
            # A federation that has failed will not complete: say so at once.
            if type_ != "Failed" and self.holds("Failed"):
                raise AssertionError(f"{self.name} has failed: {self.condition('Failed')}")
            return self.holds(type_)

        until(f"condition {type_} of {self.name}", seconds, ended_or_holds)

    def wait_for_round(self, number: int, seconds: float = 180.0) -> None:
        until(f"round {number} of {self.name}", seconds, lambda: self.bucket().rounds().keys() >= {number})

    def uid(self) -> str:
        found = self.object()
        assert found is not None, f"{self.name} is not there"
        uid: str = found["metadata"]["uid"]
        return uid

    def bucket(self) -> Prefix:
        return self.prefix_of(self.uid())

    def prefix_of(self, uid: str) -> Prefix:
        return Prefix(self.store.client(), BUCKET, f"{self.namespace}/{self.name}-{uid}/")

    def jobs(self, role: str, site: str | None = None) -> list[Object]:
        return self._made("jobs", role, site)

    def pods(self, role: str, site: str | None = None) -> list[Object]:
        """Those that run."""
        found = self._made("pods", role, site)
        return [
            pod
            for pod in found
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    def running_pod(self, role: str, site: str | None = None, seconds: float = 120.0) -> Object:
        return until(f"a running {role} of {site or self.name}", seconds, lambda: self.pods(role, site))[0]

    def kill(self, role: str, site: str | None = None) -> None:
        """The Pod, at once."""
        pod = self.running_pod(role, site)["metadata"]
        self.kube.delete("pod", pod["name"], pod["namespace"], force=True)

    def evict(self, role: str, site: str | None = None) -> None:
        """The Pod, by the eviction API: as a drain does it."""
        pod = self.running_pod(role, site)["metadata"]
        name, namespace = pod["name"], pod["namespace"]
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
        }
        self.kube.create_raw(f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", eviction)

    def leftovers(self, uid: str) -> list[str]:
        """Whatever in the cluster bears this federation's label."""
        kinds = "jobs,pods,secrets,configmaps,serviceaccounts,roles,rolebindings"
        found = self.kube.selected(kinds, {"segviz.dev/federation-uid": uid})
        return [
            f"{each['kind']} {each['metadata']['namespace']}/{each['metadata']['name']}" for each in found
        ]

    def events(self) -> list[Object]:
        return self.kube.events(self.namespace, self.name)

    def story(self) -> str:
        """What a person would look at first."""
        object_ = self.object()
        parts = ["", f"=== {self.name}", json.dumps((object_ or {}).get("status"), indent=1)]
        for role in ("trainer", "aggregator", "export", "evaluation"):
            for pod in self._made("pods", role, None):
                name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
                state = [each.get("state") for each in pod["status"].get("containerStatuses") or ()]
                parts.append(f"--- pod {namespace}/{name} {pod['status'].get('phase')} {state}")
                try:
                    parts.append(self.kube.run("logs", name, f"--namespace={namespace}", "--tail=12"))
                except KubectlFailed as error:
                    parts.append(str(error))
        parts += [f"{each['type']} {each['reason']}: {each['message']}" for each in self.events()[-15:]]
        operator = ("deployment/segviz-operator", f"--namespace={SYSTEM}", "--tail=40")
        parts += ["--- operator", self.kube.run("logs", *operator)]
        if object_ is not None:
            parts += ["--- bucket", " ".join(self.bucket().keys())[-3000:]]
        return "\n".join(parts)

    def delete(self, seconds: float = 120.0) -> None:
        self.kube.delete(KIND, self.name, self.namespace)
        until(f"{self.name} is gone", seconds, lambda: self.object() is None)

    def _made(self, kind: str, role: str, site: str | None) -> list[Object]:
        labels = {
            "segviz.dev/federation": self.name,
            "segviz.dev/federation-namespace": self.namespace,
            "segviz.dev/role": role,
            **({} if site is None else {"segviz.dev/site": site}),
        }
        return self.kube.selected(kind, labels)


Make = Callable[..., Federation]
"""By name, and what differs from the scene's spec."""


def member(name: str) -> Object:
    return {"alias": name, "siteRef": {"namespace": name, "name": name}}
