"""A federation in a folder of its own, run with the stand-in for the trainer."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

from segviz_exchange.contract.codec import open_tensors
from segviz_exchange.contract.records import Round
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.store import Store
from segviz_operator.local.workdir import WorkDir
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.observe import Observer

RUN_HERE = Path(__file__).with_name("run_here.py")
PATIENCE_SECONDS = 60.0
SITES = {"basel": "liver", "bern": "spleen", "chur": "pancreas"}


class Here:
    """A federation of basel and bern in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = root / "federation.yaml"
        self.workdir = WorkDir(root / "run")
        self.owners: dict[str, dict[str, Any]] = {}
        """What a site's owner says otherwise in its spec, by alias, from the next `describe` on."""
        self.runners: list[subprocess.Popen[str]] = []
        for alias in SITES:
            (self.data(alias)).mkdir(parents=True)
            self.behave(alias, seconds="0.01")
        self.describe("basel", "bern")

    def data(self, alias: str) -> Path:
        return self.root / "data" / alias

    def behave(self, alias: str, **files: str) -> None:
        for name, text in files.items():
            (self.data(alias) / name).write_text(text, encoding="utf-8")

    def describe(self, *aliases: str, **spec: Any) -> None:
        sites = [{"alias": a, "siteRef": {"namespace": "default", "name": a}} for a in aliases]
        model = {"channels": [4, 8], "strides": [2]}
        fields = {"sites": sites, "rounds": 3, "localEpochs": 2, "selection": "Last", "model": model, **spec}
        federation = {
            "apiVersion": "segviz.dev/v1alpha1",
            "kind": "SegVizFederation",
            "metadata": {"name": "abdomen"},
            "spec": fields,
        }
        self.write([federation, *(self.site(alias) for alias in SITES)])

    def site(self, alias: str) -> dict[str, Any]:
        data_set = {"name": "ct", "path": ".", "layout": "MSD", "organs": {SITES[alias]: [1]}}
        spec = {
            "volume": {"hostPath": {"path": str(self.data(alias))}},
            "dataSets": [data_set],
            "allowedFederations": [{"namespace": "default", "name": "abdomen"}],
            **self.owners.get(alias, {}),
        }
        metadata = {"name": alias}
        return {"apiVersion": "segviz.dev/v1alpha1", "kind": "SegVizSite", "metadata": metadata, "spec": spec}

    def write(self, documents: list[dict[str, Any]]) -> None:
        staged = self.manifest.with_suffix(".partial")
        staged.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
        staged.rename(self.manifest)

    def start(self) -> subprocess.Popen[str]:
        words = (sys.executable, RUN_HERE, self.manifest, self.workdir.root, self.root / "data")
        runner = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", start_new_session=True
        )
        self.runners.append(runner)
        return runner

    def finish(self) -> tuple[int, str]:
        """Run until the end; the exit code and what was said."""
        return end_of(self.start())

    @property
    def store(self) -> Store:
        identity = self.workdir.identity()
        assert identity is not None
        return identity.open_store()

    def store_of(self, alias: str) -> Store:
        """As that site reads and signs."""
        identity = self.workdir.identity()
        assert identity is not None
        return open_store(identity.store, keys=self.workdir.keys("", alias)).scoped(identity.prefix)

    def records(self) -> FederationRecords | None:
        return Observer(self.store).read() if self.workdir.identity() else None

    def wait(self, happened: Callable[[FederationRecords], object]) -> FederationRecords:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            records = self.records()
            if records is not None and happened(records):
                return records
            time.sleep(0.05)
        raise AssertionError(f"it did not happen; {self.records()}")

    def weight(self) -> float:
        """The final model's one number: its rounds, plus one."""
        records = self.records()
        assert records is not None
        record: Round = records.rounds[max(records.rounds)]
        path = self.workdir.bucket / self.workdir.identity().prefix / "global/blobs" / record.blob
        return float(open_tensors(path).read("net.weight")[0])


def end_of(runner: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = runner.communicate(timeout=PATIENCE_SECONDS)
    return runner.returncode, said


def children_of(runner: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(runner.pid).children()


def child_of(runner: subprocess.Popen[str], word: str) -> psutil.Process:
    return next(child for child in children_of(runner) if word in " ".join(child.cmdline()))


def round_is(number: int) -> Callable[[FederationRecords], bool]:
    return lambda records: (records.newest_round or 0) >= number


def segviz(*words: object) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("segviz")
    return subprocess.run((program, *map(str, words)), capture_output=True, encoding="utf-8", timeout=60)
