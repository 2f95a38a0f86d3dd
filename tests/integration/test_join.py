"""`segviz join`: a site that has nothing but a join file, in a federation of real trainers, on MinIO."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders.rig import SIDE, write_cases
from integration.ministry import Ministry
from integration.object_stores import Server
from segviz_exchange.contract import keys
from segviz_exchange.contract.join import encode_invitation, read_invitation
from segviz_exchange.process.exits import Exit
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.store import Store
from segviz_operator.access.handover import hand_over, newest_remote
from segviz_operator.access.rights import site_access
from segviz_operator.local.workdir import WorkDir
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.observe import Observer

PATIENCE_SECONDS = 200.0
SEGVIZ = Path(sys.executable).with_name("segviz")
ORGANS = {"basel": "liver", "chur": "spleen"}


@dataclass
class Federation:
    """basel is at the coordinator's, chur is remote."""

    root: Path
    ministry: Ministry
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workdir = WorkDir(self.root / "run")
        for seed, (alias, organ) in enumerate(ORGANS.items()):
            write_cases(self.root / "data" / alias, (organ,), cases=6, seed=seed)

    def manifests(self, rounds: int, **changes: Any) -> list[Path]:
        model = {"channels": [4, 8], "strides": [2], "residualUnits": 1}
        training = {"patch": [SIDE] * 3, "batchSize": 2, "cropsPerVolume": 1, "threads": 1}
        federation = self._object(
            "SegVizFederation",
            "abdomen",
            {
                "sites": [{"alias": a, "siteRef": {"namespace": "default", "name": a}} for a in ORGANS],
                "rounds": rounds,
                "localEpochs": 1,
                "model": model,
                "training": training,
                "preprocessing": {"intensity": {"method": "ZScore"}},
                **changes,
            },
        )
        return [self._write("federation", federation), *(self.site(alias) for alias in ORGANS)]

    def site(self, alias: str, **changes: Any) -> Path:
        data_set = {"name": "cubes", "path": ".", "layout": "List", "organs": {ORGANS[alias]: [1]}}
        spec = {
            "remote": alias == "chur",
            "volume": {"hostPath": {"path": str(self.root / "data" / alias)}},
            "dataSets": [data_set],
            "split": {"train": 50, "validation": 25, "test": 25},
            "allowedFederations": [{"namespace": "default", "name": "abdomen"}],
            "release": "HeadsAndNorm",
            **changes,
        }
        # What the owner says on the laptop, beside what the coordinator was told.
        file = f"{alias}-own" if changes else alias
        return self._write(file, self._object("SegVizSite", alias, spec))

    def run(self, rounds: int, **changes: Any) -> subprocess.Popen[str]:
        words = (
            "run",
            *self.manifests(rounds, **changes),
            "--workdir",
            self.workdir.root,
            "--store",
            self.ministry.url,
        )
        return self._start(words, self.ministry.environment())

    def join(
        self, file: Path | None = None, site: Path | None = None, state: Path | None = None
    ) -> subprocess.Popen[str]:
        words = ("join", file or self.invitation, "--site", site or self.root / "chur.yaml")
        folders = ("--data", self.root / "data/chur", "--state", state or self.root / "laptop")
        return self._start((*words, *folders, "--renew-seconds", "0.5"), {})

    @property
    def invitation(self) -> Path:
        return self.workdir.invitations / "chur.json"

    @property
    def prefix(self) -> str:
        identity = self.workdir.identity()
        assert identity is not None
        return identity.prefix

    @property
    def store(self) -> Store:
        return self.ministry.root().scoped(self.prefix)

    def records(self) -> FederationRecords:
        return Observer(self.store).read()

    def mint(self, parent: Credentials) -> Credentials:
        # As long as the run's own, or it would find them due and renew them.
        return self.ministry.mint(site_access("chur"), 3600, parent, self.prefix)

    def _start(self, words: tuple[object, ...], settings: dict[str, str]) -> subprocess.Popen[str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        process = subprocess.Popen(
            (SEGVIZ, *map(str, words)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env={**own, "OMP_NUM_THREADS": "1", **settings},
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def _object(self, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "segviz.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}

    def _write(self, name: str, document: dict[str, Any]) -> Path:
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path


@pytest.fixture(scope="module")
def ministry(minio: Server) -> Ministry:
    return Ministry(minio)


@pytest.fixture
def federation(ministry: Ministry, tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path, ministry)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=30)


def wait_until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, said


@pytest.mark.timeout(500)
def test_a_remote_site_trains_through_an_interruption_and_a_rotation(federation: Federation) -> None:
    runner = federation.run(rounds=6)
    wait_until(federation.invitation.exists, "no join file")
    assert federation.invitation.stat().st_mode & 0o777 == 0o600
    first = federation.ministry.user()
    hand_over(federation.store, "chur", 2, federation.mint(first))

    laptop = federation.join()
    wait_until(lambda: (federation.records().newest_round or 0) >= 1, "no round")
    laptop.send_signal(signal.SIGINT)
    code, said = end_of(laptop)
    assert code == 130, said
    assert "took credentials no. 2" in said
    assert "Stopped; nothing is lost" in said

    laptop = federation.join()
    wait_until(lambda: (federation.records().newest_round or 0) >= 2, "no further round")
    hand_over(federation.store, "chur", 3, federation.mint(federation.ministry.user()))
    time.sleep(3)
    federation.ministry.remove(first)  # what the laptop had until now is worth nothing
    code, said = end_of(laptop)
    assert code == 0, said
    assert "took credentials no. 3" in said
    assert "Done: the federation is over for chur" in said
    code, said = end_of(runner)
    assert code == 0, said
    records = federation.records()
    assert records.rounds[6].participants == ("basel", "chur")
    assert records.sites["chur"].outcome is not None
    log = next((federation.root / "laptop").rglob("trainer-chur.log")).read_text(encoding="utf-8")
    assert "Traceback" not in log


def test_refusals_say_what_to_do(federation: Federation) -> None:
    federation.run(rounds=2)
    wait_until(federation.invitation.exists, "no join file")
    chur = federation.root / "chur.yaml"

    def refused(**options: Path) -> str:
        code, said = end_of(federation.join(**options))
        assert code == Exit.REFUSED, said
        assert "Traceback" not in said
        return said

    assert "does not consent to default/abdomen" in refused(
        site=federation.site("chur", allowedFederations=[])
    )
    assert "is suspended" in refused(site=federation.site("chur", suspend=True))
    organs = [{"name": "cubes", "path": ".", "layout": "List", "organs": {"pancreas": [1]}}]
    assert "expects spleen from chur" in refused(site=federation.site("chur", dataSets=organs))
    elsewhere = [{"name": "cubes", "path": "away", "layout": "List", "organs": {"spleen": [1]}}]
    assert "does not exist" in refused(site=federation.site("chur", dataSets=elsewhere))
    federation.invitation.chmod(0o644)
    assert "chmod 600" in refused()
    federation.invitation.chmod(0o600)
    assert "not a join file" in refused(file=chur)
    assert "--state" in refused(state=chur)
    lost = federation.ministry.user()
    stale = federation.root / "stale.json"
    invitation = json.loads(encode_invitation(read_invitation(federation.invitation)))
    minted = federation.mint(lost)
    invitation["credentials"] = {"accessKey": minted.access_key, "secretKey": minted.secret_key}
    invitation["credentials"]["sessionToken"] = minted.session_token
    federation.ministry.remove(lost)
    stale.write_text(json.dumps(invitation), encoding="utf-8")
    stale.chmod(0o600)
    said = refused(file=stale)
    assert "Ask the coordinator of default/abdomen for a new join file" in said
    assert minted.secret_key not in said


def test_a_remote_site_that_refuses_is_left_out_with_its_reason(federation: Federation) -> None:
    image = federation.root / "data/chur/image00.nii.gz"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    federation.run(rounds=100, participation={"minSites": 1, "roundTimeoutSeconds": 3600})
    wait_until(federation.invitation.exists, "no join file")
    code, said = end_of(federation.join())
    assert code == Exit.REFUSED, said
    assert "image00.nii.gz" in said

    def excluded() -> str | None:
        control = federation.records().control
        return control.members["chur"].excluded if control else None

    wait_until(excluded, "it is not left out")
    assert excluded() == (
        "refused: 1 of 6 cases cannot be used. The log of the site's own trainer says which and why."
    )
    # Mended, it joins again and is asked for again.
    image.write_bytes(whole)
    federation.join()
    wait_until(lambda: not excluded(), "it is not asked for again")


def test_a_lost_join_file_is_written_again(federation: Federation) -> None:
    federation.run(rounds=2)
    wait_until(federation.invitation.exists, "no join file")
    first = federation.invitation.read_bytes()
    federation.invitation.unlink()
    wait_until(federation.invitation.exists, "no join file any more")
    assert federation.invitation.read_bytes() == first


def test_the_coordinator_renews_at_half_life(federation: Federation) -> None:
    federation.run(rounds=2)
    wait_until(federation.invitation.exists, "no join file")
    assert newest_remote(federation.store, "chur")[0] == 1
    old = federation.ministry.mint(site_access("chur"), prefix=federation.prefix, seconds=900)
    hand_over(federation.store, "chur", 2, old)  # of an hour, three quarters are over
    wait_until(lambda: newest_remote(federation.store, "chur")[0] == 3, "not renewed")
    renewed = newest_remote(federation.store, "chur")[1]
    # The store has them first, and the join file a moment later.
    wait_until(
        lambda: read_invitation(federation.invitation).credentials == renewed, "the join file is an old one"
    )
    left = [entry.key for entry in federation.store.list(keys.credentials("chur"))]
    assert left == [keys.credential("chur", 2), keys.credential("chur", 3)]
