"""In place of kubelet and the Job controller: runs the Jobs of an API server without nodes as processes.

The Jobs are the operator's own, with the Secrets that it made; of a Pod only what the operator reads is
written: the exit code and the last words. Trainers are the stand-in, the aggregator is the real one.
"""

import base64
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segviz_operator.cluster.api.client import JOBS, PODS, SECRETS, Cluster, ClusterError, Kind
from segviz_operator.cluster.api.names import MANAGED_BY, MANAGER

STAND_IN = Path(__file__).with_name("stand_in.py")
LOOK_SECONDS = 0.1
JOB_FINALIZER = "foregroundDeletion"

Object = dict[str, Any]


@dataclass
class Run:
    job: Object
    process: subprocess.Popen[bytes]
    log: Path
    ended: bool = False


@dataclass
class JobRunner:
    cluster: Cluster
    root: Path
    data: Mapping[str, Path]
    """Where each site's images lie, by namespace."""
    namespaces: tuple[str, ...]
    held: set[str] = field(default_factory=set)
    """Namespaces where no Pod is scheduled."""
    _runs: dict[str, Run] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop, name="kubelet", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        for run in self._runs.values():
            if run.process.poll() is None:
                run.process.kill()
                run.process.wait()

    def _loop(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                for namespace in self.namespaces:
                    self._look(namespace)
            except ClusterError as error:
                print(f"job runner: {error}", file=sys.stderr)

    def _look(self, namespace: str) -> None:
        jobs = self.cluster.list(JOBS, namespace, labelSelector=f"{MANAGED_BY}={MANAGER}")
        there = {job["metadata"]["uid"]: job for job in jobs}
        for uid, job in there.items():
            run = self._runs.get(uid)
            if "deletionTimestamp" in job["metadata"]:
                self._finish_deletion(job, run)
            elif run is None and namespace not in self.held and not _rests(job):
                self._begin(job)
            elif run is not None and not run.ended and run.process.poll() is not None:
                self._end(run)
        for uid, run in list(self._runs.items()):
            # Deleted in the background: its Pod goes with it.
            gone = run.job["metadata"]["namespace"] == namespace and uid not in there
            if gone and run.process.poll() is None:
                run.process.send_signal(signal.SIGTERM)

    def _begin(self, job: Object) -> None:
        metadata = job["metadata"]
        pod = job["spec"]["template"]["spec"]
        secret = next(each["secret"]["secretName"] for each in pod["volumes"] if each["name"] == "store")
        found = self.cluster.get(SECRETS, metadata["namespace"], secret)
        if found is None:
            return  # kubelet waits for it too
        folder = self.root / metadata["uid"]
        (folder / "store").mkdir(parents=True, exist_ok=True)
        for name, value in found["data"].items():
            (folder / "store" / name).write_bytes(base64.b64decode(value))
        self._mount_key(pod, metadata["namespace"], folder)
        container = pod["containers"][0]
        log = folder / "log"
        with log.open("ab") as stream:
            process = subprocess.Popen(
                self._command(container["args"], folder, metadata["namespace"]),
                env={**os.environ, **self._environment(container, folder)},
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
            )
        self._runs[metadata["uid"]] = Run(job, process, log)
        status = {"startTime": _now(), "active": 1, "ready": 1, "uncountedTerminatedPods": {}}
        self._set_status(JOBS, metadata["namespace"], metadata["name"], status)

    def _mount_key(self, pod: Object, namespace: str, folder: Path) -> None:
        (folder / "key").mkdir(exist_ok=True)
        for volume in pod["volumes"]:
            if volume["name"] == "key":
                secret = self.cluster.get(SECRETS, namespace, volume["secret"]["secretName"])
                assert secret is not None, "the test makes it first"
                for name, value in secret["data"].items():
                    (folder / "key" / name).write_bytes(base64.b64decode(value))

    def _command(self, arguments: list[str], folder: Path, namespace: str) -> list[str]:
        places = {
            "/segviz/store": str(folder / "store"),
            "/data": str(self.data.get(namespace, folder)),
            "/state": str(self.root / "state" / namespace),
            "/tmp": str(folder / "tmp"),
        }
        words = [_moved(word, places) for word in arguments]
        if "--state" in words:
            Path(words[words.index("--state") + 1]).mkdir(parents=True, exist_ok=True)
        if words[:2] == ["-m", "segviz_trainer"]:
            words = [str(STAND_IN), *words[2:]]
        return [sys.executable, *words]

    def _environment(self, container: Object, folder: Path) -> dict[str, str]:
        places = {f"/segviz/{each}": str(folder / each) for each in ("store", "key")} | {
            "/tmp": str(folder / "tmp")
        }
        (folder / "tmp").mkdir(exist_ok=True)
        return {each["name"]: _moved(each["value"], places) for each in container["env"]}

    def _end(self, run: Run) -> None:
        metadata, code = run.job["metadata"], run.process.returncode
        container = run.job["spec"]["template"]["spec"]["containers"][0]["name"]
        said = run.log.read_text(encoding="utf-8")[-2048:]
        pod: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{metadata['name']}-pod",
                "namespace": metadata["namespace"],
                "labels": {"batch.kubernetes.io/job-name": metadata["name"]},
            },
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "containers": [{"name": container, "image": "none"}],
            },
        }
        self.cluster.create(PODS, pod)
        terminated = {"exitCode": code if code >= 0 else 128 - code, "reason": "Error", "message": said}
        state = {
            "name": container,
            "image": "none",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"terminated": terminated},
        }
        place = (metadata["namespace"], pod["metadata"]["name"])
        self._set_status(
            PODS, *place, {"phase": "Failed" if code else "Succeeded", "containerStatuses": [state]}
        )
        types = ("FailureTarget", "Failed") if code else ("SuccessCriteriaMet", "Complete")
        conditions = [
            {"type": each, "status": "True", "reason": "BackoffLimitExceeded" if code else "Done",
             "message": "", "lastTransitionTime": _now(), "lastProbeTime": _now()}
            for each in types
        ]  # fmt: skip
        counted = {"failed": 1} if code else {"succeeded": 1, "completionTime": _now()}
        status = {"active": 0, "ready": 0, "conditions": conditions, **counted}
        run.ended = True
        self._set_status(JOBS, metadata["namespace"], metadata["name"], status)

    def _finish_deletion(self, job: Object, run: Run | None) -> None:
        if run is not None and run.process.poll() is None:
            run.process.send_signal(signal.SIGTERM)
            return
        metadata = job["metadata"]
        self.cluster.delete(PODS, metadata["namespace"], f"{metadata['name']}-pod")
        rest = [each for each in metadata.get("finalizers") or () if each != JOB_FINALIZER]
        try:
            self.cluster.merge(
                JOBS, metadata["namespace"], metadata["name"], {"metadata": {"finalizers": rest}}
            )
        except ClusterError:
            return

    def _set_status(self, kind: Kind, namespace: str, name: str, status: Object) -> None:
        self.cluster.merge(kind, namespace, name, {"status": status}, "status")


def _rests(job: Object) -> bool:
    return bool(job["spec"].get("suspend")) or any(
        each["type"] in ("Complete", "Failed") for each in job.get("status", {}).get("conditions") or ()
    )


def _moved(word: str, places: Mapping[str, str]) -> str:
    for path, place in places.items():
        if word == path or word.startswith(f"{path}/"):
            return place + word.removeprefix(path)
    return word


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
