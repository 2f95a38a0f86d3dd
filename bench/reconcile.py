"""The operator under many federations: how soon a change is in the status, and what that costs.

    python bench/reconcile.py --federations 200

Boots a control plane without machines (fleet.py), lets the real operator run against it, and writes the
records of trainers and aggregators in their place. Prints one markdown row.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from fleet import BUCKET, ROOT, Fleet, running_fleet
from kubernetes import client, watch
from minio.credentials.providers import StaticProvider

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import commit, encode, find
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.contract.records import Closing, Control, Dice, Participant, Round, RoundScores
from segviz_exchange.stores.s3 import S3Store

SITES = ("basel", "bern", "chur", "geneva")
ORGANS = ("liver", "spleen", "pancreas", "kidneys")
OWN = ("segviz.dev", "v1alpha1")
FEDERATIONS = "segvizfederations"
DIGEST = "0" * 64
COLUMNS = (
    "federations × sites",
    "edit → status, p50 / p99",
    "lost Job → made again, p50 / p99",
    "record → status, p50 / p99",
    "API requests: idle, a federation and minute",
    "an edit",
    "to start a federation",
    "operator's memory",
    "its CPU, idle",
)


@dataclass
class Seen:
    """What a watch has shown, and when: generation and round by federation, newest trainer's Job by site."""

    generations: dict[tuple[str, int], float] = field(default_factory=dict)
    rounds: dict[tuple[str, int], float] = field(default_factory=dict)
    jobs: dict[str, list[float]] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--federations", type=int, default=200)
    parser.add_argument("--samples", type=int, default=200, help="events of each kind")
    parser.add_argument("--per-second", type=float, default=4.0, help="events a second")
    parser.add_argument(
        "--round-seconds", type=float, default=60.0, help="between two rounds of a federation"
    )
    parser.add_argument("--idle-seconds", type=float, default=60.0, help="how long idle requests are counted")
    parser.add_argument("--keep", type=Path, help="folder for logs; a temporary one, if left out")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        fleet = stack.enter_context(running_fleet(folder))
        names = [f"f{number:04d}" for number in range(options.federations)]
        create_definitions(fleet)
        create_sites(fleet, names)
        operator = stack.enter_context(running_operator(fleet))
        before = fleet.audited()
        started = time.monotonic()
        create_federations(fleet, names)
        seen = Seen()
        stack.enter_context(watching(fleet, seen))
        wait_for_jobs(seen, len(names), operator)
        start_seconds = time.monotonic() - started
        to_start = (fleet.audited() - before) / len(names)
        say(f"all Jobs there after {start_seconds:.0f} s")
        writer = Writer(fleet, names, options.round_seconds)
        stack.enter_context(writer.running())
        writer.wait_for_first_rounds()
        settle(seen, len(names))
        idle, cpu = idle_costs(fleet, operator, options.idle_seconds, len(names))
        edits, requests = measure_edits(fleet, names, seen, options)
        lost = measure_lost_jobs(fleet, names, seen, options)
        records = [seen.rounds[key] - at for key, at in writer.written.items() if key in seen.rounds]
        row = (
            f"{len(names)} × {len(SITES)}",
            spread(edits),
            spread(lost),
            spread(records),
            f"{idle:.1f}",
            f"{requests:.1f}",
            f"{to_start:.0f} (all in {start_seconds:.0f} s)",
            f"{operator.memory_info().rss / 1e6:.0f} MB",
            f"{cpu:.0%}",
        )
    for line in (COLUMNS, ["---"] * len(COLUMNS), row):
        print("| " + " | ".join(line) + " |")


# --- what people make ---------------------------------------------------------------------------------


def create_definitions(fleet: Fleet) -> None:
    extensions = client.ApiextensionsV1Api(fleet.client())
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        extensions.create_custom_resource_definition(yaml.safe_load(path.read_text(encoding="utf-8")))
    time.sleep(3)  # until both are served


def create_sites(fleet: Fleet, names: list[str]) -> None:
    api = fleet.client()
    core: Any = client.CoreV1Api(api)
    objects: Any = client.CustomObjectsApi(api)
    rights: Any = client.RbacAuthorizationV1Api(api)

    def create(name: str) -> None:
        core.create_namespace({"metadata": {"name": name}})
        keys_ = {"accessKey": fleet.access_key, "secretKey": fleet.secret_key}
        core.create_namespaced_secret(name, {"metadata": {"name": "bucket"}, "stringData": keys_})
        create_state(core, name)
        consent = {
            "metadata": {"name": f"segviz:consent:{name}:{name}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "segviz"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "operator"}],
        }
        rights.create_namespaced_role_binding(name, consent)
        for site, organ in zip(SITES, ORGANS, strict=True):
            objects.create_namespaced_custom_object(
                *OWN, name, "segvizsites", site_manifest(name, site, organ)
            )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, names))


def create_state(core: Any, namespace: str) -> None:  # noqa: ANN401 - its types want no plain objects
    """A claim that is bound: the scheduler wants it, and nobody mounts it."""
    spec = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    capacity = {"storage": "1Gi"}
    volume = {
        **spec,
        "capacity": capacity,
        "hostPath": {"path": "/nowhere"},
        "claimRef": {"namespace": namespace, "name": "state"},
    }
    core.create_persistent_volume({"metadata": {"name": namespace}, "spec": volume})
    claim = {**spec, "volumeName": namespace, "resources": {"requests": capacity}}
    core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": "state"}, "spec": claim})


def site_manifest(namespace: str, name: str, organ: str) -> dict[str, Any]:
    return {
        "apiVersion": "segviz.dev/v1alpha1",
        "kind": "SegVizSite",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "volume": {"hostPath": {"path": "/nowhere"}},
            "state": {"persistentVolumeClaim": {"claimName": "state"}},
            "trainer": {"image": "trainer:fake"},
            "dataSets": [{"name": "ct", "layout": "MSD", "organs": {organ: [1]}}],
            "allowedFederations": [{"namespace": namespace, "name": namespace}],
            "release": "HeadsAndNorm",
        },
    }


def create_federations(fleet: Fleet, names: list[str]) -> None:
    objects: Any = client.CustomObjectsApi(fleet.client())

    def create(name: str) -> None:
        manifest = {
            "apiVersion": "segviz.dev/v1alpha1",
            "kind": "SegVizFederation",
            "metadata": {"namespace": name, "name": name},
            "spec": {
                "sites": [{"alias": site, "siteRef": {"namespace": name, "name": site}} for site in SITES],
                "rounds": 100000,
                "store": {
                    "endpoint": f"http://{fleet.store_address}",
                    "bucket": BUCKET,
                    "secretRef": {"name": "bucket"},
                },
            },
        }
        objects.create_namespaced_custom_object(*OWN, name, FEDERATIONS, manifest)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, names))


@contextlib.contextmanager
def running_operator(fleet: Fleet) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "segviz_operator", "--liveness", "", "--metrics-port", "0"]
    images = ["--aggregator-image", "aggregator:fake", "--trainer-image", "trainer:fake"]
    environment = {**os.environ, "KUBECONFIG": str(fleet.kubeconfig("operator"))}
    with (fleet.folder / "operator.log").open("wb") as log:
        process = subprocess.Popen([*command, *images], stdout=log, stderr=log, env=environment)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


# --- what trainers and aggregators write --------------------------------------------------------------


class Writer:
    """Commits a round of every federation in turn: its closing, its model's record, scores, heartbeats."""

    def __init__(self, fleet: Fleet, names: list[str], round_seconds: float) -> None:
        self._objects: Any = client.CustomObjectsApi(fleet.client())
        self._store = S3Store.from_url(
            f"s3+http://{fleet.store_address}/{BUCKET}", StaticProvider(fleet.access_key, fleet.secret_key)
        )
        self._names = names
        self._pause = round_seconds / len(names)
        self._stop = threading.Event()
        self._uids = {name: self._uid(name) for name in names}
        self.written: dict[tuple[str, int], float] = {}

    def _uid(self, name: str) -> str:
        found = self._objects.get_namespaced_custom_object(*OWN, name, FEDERATIONS, name)
        uid: str = found["metadata"]["uid"]
        return uid

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def wait_for_first_rounds(self) -> None:
        while len(self.written) < len(self._names):
            time.sleep(0.5)

    def _run(self) -> None:
        round_ = 0
        while not self._stop.is_set():
            for name in self._names:
                due = time.monotonic() + (self._pause if round_ else 0.0)
                self._commit(name, round_)
                self.written[name, round_] = time.monotonic()
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    return
            round_ += 1

    def _commit(self, name: str, round_: int) -> None:
        store = self._store.scoped(keys.federation_prefix(name, name, self._uids[name]))
        if round_ == 0:
            while find(store, keys.control(1), Control) is None and not self._stop.wait(0.2):
                pass
        participants = tuple(Participant(site, 1, DIGEST, 1) for site in SITES)
        for site, organ in zip(SITES, ORGANS, strict=True):
            dice = {organ: Dice(min(0.9, round_ / 100), 0.1, 5)}
            commit(store, keys.scores(site, round_), RoundScores(site, round_, dice))
            beat = Progress(1, Phase.TRAINING, round=round_ + 1, epoch=0, step=1, steps=10, loss=0.5)
            store.put(keys.progress(site), encode(beat))
        commit(store, keys.closing(round_), Closing(round_, 1, participants, ()))
        commit(store, keys.round_record(round_), Round(round_, 1, DIGEST, 1, SITES))


# --- what is measured ---------------------------------------------------------------------------------


@contextlib.contextmanager
def watching(fleet: Fleet, seen: Seen) -> Iterator[None]:
    stop = threading.Event()
    threads = [
        threading.Thread(target=_watch_federations, args=(fleet, seen, stop)),
        threading.Thread(target=_watch_jobs, args=(fleet, seen, stop)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _watch_federations(fleet: Fleet, seen: Seen, stop: threading.Event) -> None:
    objects: Any = client.CustomObjectsApi(fleet.client())
    while not stop.is_set():
        arguments = (objects.list_cluster_custom_object, *OWN, FEDERATIONS)
        for event in _watcher().stream(*arguments, timeout_seconds=5):
            now = time.monotonic()
            name, status = event["object"]["metadata"]["name"], event["object"].get("status") or {}
            if "observedGeneration" in status:
                seen.generations.setdefault((name, status["observedGeneration"]), now)
            if "currentRound" in status:
                seen.rounds.setdefault((name, status["currentRound"]), now)


def _watcher() -> Any:  # noqa: ANN401 - untyped in its library
    return watch.Watch()  # type: ignore[no-untyped-call]


def _watch_jobs(fleet: Fleet, seen: Seen, stop: threading.Event) -> None:
    batch: Any = client.BatchV1Api(fleet.client())
    known = set()
    while not stop.is_set():
        for event in _watcher().stream(batch.list_job_for_all_namespaces, timeout_seconds=5):
            job = event["object"]
            if event["type"] == "ADDED" and job.metadata.uid not in known:
                known.add(job.metadata.uid)
                labels = job.metadata.labels
                key = f"{job.metadata.namespace}/{labels.get('segviz.dev/site', 'aggregator')}"
                seen.jobs.setdefault(key, []).append(time.monotonic())


def wait_for_jobs(seen: Seen, federations: int, operator: psutil.Process) -> None:
    deadline = time.monotonic() + 600
    wanted = federations * (len(SITES) + 1)
    while len(seen.jobs) < wanted:
        if time.monotonic() > deadline or not operator.is_running():
            raise SystemExit(f"{len(seen.jobs)} of {wanted} Jobs. See operator.log (--keep FOLDER).")
        time.sleep(0.5)


def settle(seen: Seen, federations: int) -> None:
    deadline = time.monotonic() + 300
    while len({name for name, _ in seen.rounds}) < federations and time.monotonic() < deadline:
        time.sleep(0.5)


def idle_costs(
    fleet: Fleet, operator: psutil.Process, seconds: float, federations: int
) -> tuple[float, float]:
    """Requests a federation and minute, and the share of one core, while nobody edits anything."""
    before, cpu = fleet.audited(), sum(operator.cpu_times()[:2])
    time.sleep(seconds)
    requests = fleet.audited() - before
    return requests / federations * 60 / seconds, (sum(operator.cpu_times()[:2]) - cpu) / seconds


def measure_edits(
    fleet: Fleet, names: list[str], seen: Seen, options: argparse.Namespace
) -> tuple[list[float], float]:
    objects: Any = client.CustomObjectsApi(fleet.client())
    asked: dict[tuple[str, int], float] = {}
    before = fleet.audited()
    began = time.monotonic()
    for number in range(options.samples):
        name = names[number % len(names)]
        body = {"spec": {"ttlSecondsAfterFinished": 1000 + number}}
        at = time.monotonic()
        edited = objects.patch_namespaced_custom_object(*OWN, name, FEDERATIONS, name, body)
        asked[name, edited["metadata"]["generation"]] = at
        time.sleep(1 / options.per_second)
    missing = wait_until_seen(asked, seen.generations)
    seconds = time.monotonic() - began
    say(f"{options.samples} edits in {seconds:.0f} s, {missing} never seen")
    requests = (fleet.audited() - before) / options.samples
    return [seen.generations[key] - at for key, at in asked.items() if key in seen.generations], requests


def measure_lost_jobs(fleet: Fleet, names: list[str], seen: Seen, options: argparse.Namespace) -> list[float]:
    batch: Any = client.BatchV1Api(fleet.client())
    asked: dict[str, tuple[float, int]] = {}
    for number in range(min(options.samples, len(names))):
        name, site = names[number], SITES[number % len(SITES)]
        selector = f"segviz.dev/site={site}"
        job = batch.list_namespaced_job(name, label_selector=selector).items[0]
        asked[f"{name}/{site}"] = (time.monotonic(), len(seen.jobs[f"{name}/{site}"]))
        batch.delete_namespaced_job(job.metadata.name, name, propagation_policy="Background")
        time.sleep(1 / options.per_second)
    deadline = time.monotonic() + 60
    while any(len(seen.jobs[key]) <= count for key, (_, count) in asked.items()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return [seen.jobs[key][count] - at for key, (at, count) in asked.items() if len(seen.jobs[key]) > count]


def wait_until_seen(asked: dict[tuple[str, int], float], seen: dict[tuple[str, int], float]) -> int:
    deadline = time.monotonic() + 60
    while (missing := len(asked.keys() - seen.keys())) and time.monotonic() < deadline:
        time.sleep(0.1)
    return missing


def spread(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return "none"
    return f"{statistics.median(seconds):.2f} / {statistics.quantiles(seconds, n=100)[98]:.2f} s"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
