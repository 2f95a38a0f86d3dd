"""What is found before a site trains."""

import dataclasses
import os
import re
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from builders.rig import algorithm, site_spec, small_federation, write_cases
from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import AlgorithmName, Norm
from segviz_exchange.contract.ledger import read
from segviz_exchange.contract.progress import Preflight, Severity
from segviz_exchange.contract.records import Control, Member
from segviz_exchange.contract.site_spec import Limits, Resources
from segviz_exchange.contract.spec import Model, Participation
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.folder import FolderStore
from segviz_trainer.participation.preflight import PROBE_BYTES, examine
from segviz_trainer.process.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    write_cases(tmp_path / "data", ("liver",), cases=3, seed=0)
    (tmp_path / "state").mkdir()
    return Site("basel", site_spec(("liver",)), tmp_path / "data", tmp_path / "state")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "bucket")


def control_of(**changes: object) -> Control:
    return Control(1, small_federation(**changes), {"basel": Member(("liver",))}, False)


def findings(
    store: FolderStore, site: Site, control: Control | None = None
) -> dict[str, tuple[Severity, str]]:
    examine(store, site, control or control_of(), 7)
    record = read(store, keys.preflight("basel", 7), Preflight)
    return {each.check: (each.severity, each.message) for each in record.findings}


def test_a_sound_site_leaves_a_record(store: FolderStore, site: Site) -> None:
    found = findings(store, site)
    assert {check: severity for check, (severity, _) in found.items()} == dict.fromkeys(
        ("Data", "Clock", "Disk", "Bandwidth", "GPU"), Severity.INFO
    )
    assert found["Data"][1].startswith("3 cases")


BEYOND = {
    "the algorithm": (Limits(algorithms=(AlgorithmName.MEDIAN,)), "spec.limits.algorithms allows Median"),
    "rounds": (Limits(max_rounds=1), "spec.limits.maxRounds is 1, and the federation has 2 rounds"),
    "few cases": (Limits(min_cases=2), "spec.limits.minCases is 2, and a round would train with 1 cases"),
    "few steps": (Limits(min_steps=3), "spec.limits.minSteps is 3, and a round would have 2 steps"),
}


@pytest.mark.parametrize(("limits", "said"), BEYOND.values(), ids=BEYOND)
def test_a_control_beyond_the_owners_limits_refuses_the_site(
    store: FolderStore, site: Site, limits: Limits, said: str
) -> None:
    within = msgspec.structs.replace(site.spec, limits=Limits(max_rounds=2, min_cases=1, min_steps=2))
    assert "Limits" not in findings(store, dataclasses.replace(site, spec=within))
    bound = dataclasses.replace(site, spec=msgspec.structs.replace(site.spec, limits=limits))
    with pytest.raises(Refusal, match=f"Limits: .*{re.escape(said)}"):
        findings(store, bound, control_of(rounds=2))


def test_missing_data_refuse_the_site_and_are_named(store: FolderStore, site: Site) -> None:
    (site.data_root / "label01.nii.gz").unlink()
    with pytest.raises(Refusal, match=r"Data: .*label01\.nii\.gz"):
        examine(store, site, control_of(), 7)
    record = read(store, keys.preflight("basel", 7), Preflight)
    (error,) = (each for each in record.findings if each.severity is Severity.ERROR)
    assert (error.check, "label01" in error.message) == ("Data", False)
    assert error.message.startswith("spec.dataSets[0].path: the data set cannot be used. The log of the")


@pytest.mark.parametrize(
    ("free", "severity"), [(1 << 10, Severity.ERROR), (1 << 40, Severity.INFO)], ids=["full", "empty"]
)
def test_a_full_disk_refuses_the_site(
    store: FolderStore, site: Site, monkeypatch: pytest.MonkeyPatch, free: int, severity: Severity
) -> None:
    usage = SimpleNamespace(free=free)
    monkeypatch.setattr(
        "segviz_trainer.participation.preflight.shutil",
        SimpleNamespace(disk_usage=lambda path: usage, which=shutil.which),
    )
    if severity is Severity.ERROR:
        with pytest.raises(Refusal, match=r"Disk: the state folder has 0 MiB free; cache and checkpoints"):
            examine(store, site, control_of(), 7)
    else:
        assert findings(store, site)["Disk"][0] is severity


def test_what_the_cache_holds_already_is_not_asked_for_again(store: FolderStore, site: Site) -> None:
    control = control_of(model=Model((32, 64), (2,), 1, Norm.BATCH, 1))
    assert "about 0 MiB more" not in findings(store, site, control)["Disk"][1]
    (site.state / "cache").mkdir()
    (site.state / "cache/blob").write_bytes(bytes(64 << 20))
    examine(store, site, control, 8)
    record = read(store, keys.preflight("basel", 8), Preflight)
    assert any("about 0 MiB more" in each.message for each in record.findings)


def test_a_cache_that_a_study_shares_counts_too(store: FolderStore, site: Site, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "blob").write_bytes(bytes(64 << 20))
    (site.state / "cache").symlink_to(shared)
    control = control_of(model=Model((32, 64), (2,), 1, Norm.BATCH, 1))
    assert "about 0 MiB more" in findings(store, site, control)["Disk"][1]


def test_under_local_the_whole_model_is_kept_for_every_round(store: FolderStore, site: Site) -> None:
    def asked(name: AlgorithmName) -> int:
        control = control_of(
            rounds=50, model=Model((32, 64), (2,), 1, Norm.BATCH, 1), algorithm=algorithm(name)
        )
        examine(store, site, control, len(asked_for) + 10)
        record = read(store, keys.preflight("basel", len(asked_for) + 10), Preflight)
        asked_for.append(next(each.message for each in record.findings if each.check == "Disk"))
        return int(asked_for[-1].partition("about ")[2].split()[0])

    asked_for: list[str] = []
    assert asked(AlgorithmName.LOCAL) > 2 * asked(AlgorithmName.FED_AVG), asked_for


class Skewed(FolderStore):
    """A store whose clock goes otherwise than ours."""

    skew = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.skew


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(600, "600 s behind the store's"), (-600, "600 s ahead of the store's")],
)
def test_a_clock_that_is_off_is_told(tmp_path: Path, site: Site, seconds: int, words: str) -> None:
    store = Skewed(tmp_path / "bucket")
    store.skew = timedelta(seconds=seconds)
    severity, message = findings(store, site)["Clock"]
    assert severity is Severity.WARNING
    assert words in message.replace("599", "600")


class Slow(FolderStore):
    """A line on which a probe takes minutes, by a clock that the test moves."""

    on_put: Callable[[], None] = staticmethod(lambda: None)

    def put(self, key: str, data: bytes) -> None:
        self.on_put()
        super().put(key, data)


def test_a_line_too_slow_for_the_deadline_is_told(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(
        "segviz_trainer.participation.preflight.time", SimpleNamespace(monotonic=lambda: clock[0])
    )
    store = Slow(tmp_path / "bucket")
    store.on_put = lambda: clock.__setitem__(0, clock[0] + 1e6)
    control = control_of(participation=Participation(10.0, 1, 60))
    severity, message = findings(store, site, control)["Bandwidth"]
    assert severity is Severity.WARNING
    assert "more than half of participation.roundTimeoutSeconds" in message


class Altering(FolderStore):
    def get(self, key: str) -> bytes:
        data = super().get(key)
        return bytes(PROBE_BYTES) if key.endswith("probe") else data


def test_a_store_that_alters_objects_refuses_the_site(tmp_path: Path, site: Site) -> None:
    with pytest.raises(Refusal, match="Bandwidth: an object came back changed from the store"):
        examine(Altering(tmp_path / "bucket"), site, control_of(), 7)


class Keeping(FolderStore):
    """As through a cache."""

    def get(self, key: str) -> bytes:
        self.kept = {key: super().get(key), **getattr(self, "kept", {})}
        return self.kept[key]


def test_a_cache_before_the_store_refuses_the_site(tmp_path: Path, site: Site) -> None:
    with pytest.raises(Refusal, match=r"Bandwidth: an object came back changed.*proxy or cache"):
        examine(Keeping(tmp_path / "bucket"), site, control_of(), 7)


class Forgetful(FolderStore):
    """As through a proxy that opens TLS and drops If-None-Match."""

    def create(self, key: str, data: bytes) -> None:
        self.put(key, data)


def test_a_way_that_loses_the_condition_of_a_write_refuses_the_site(tmp_path: Path, site: Site) -> None:
    with pytest.raises(Refusal, match=r"Bandwidth: a second create of one key was accepted.*If-None-Match"):
        examine(Forgetful(tmp_path / "bucket"), site, control_of(), 7)


def with_gpu(site: Site) -> Site:
    from msgspec.structs import replace

    trainer = replace(site.spec.trainer, resources=Resources(limits={"nvidia.com/gpu": 1}))
    return Site(site.alias, replace(site.spec, trainer=trainer), site.data_root, site.state)


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU")  # noqa: PTH110
def test_a_gpu_that_is_asked_for_must_be_there(
    store: FolderStore, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert findings(store, with_gpu(site))["GPU"][0] is Severity.WARNING
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(Refusal, match=r"GPU: .*nvidia\.com/gpu.*torch sees none"):
        examine(store, with_gpu(site), control_of(), 8)
