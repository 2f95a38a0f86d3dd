"""A run before its first turn."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from builders.federations import build_control
from builders.mistakes import build_federation, build_site, changed
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import encode
from segviz_exchange.contract.records import Control, Failure
from segviz_exchange.contract.run import RunHere
from segviz_exchange.process.errors import Refusal
from segviz_operator.local.files import Edits, ManifestFiles
from segviz_operator.local.opening import OpenRun, open_run
from segviz_operator.local.report_files import write_index
from segviz_operator.local.volumes import Volumes
from segviz_operator.local.wishes import Request
from segviz_operator.local.workdir import WorkDir
from segviz_operator.watch.metrics import OperatorMetrics


def site(alias: str, organ: str) -> dict[str, Any]:
    consent = {
        "metadata.namespace": alias,
        "spec.allowedFederations": [{"namespace": "default", "name": "abdomen"}],
    }
    return changed(build_site(organ, organ), consent)


MANIFESTS = (build_federation(), site("basel", "liver"), site("bern", "spleen"))


def write(folder: Path, *manifests: dict[str, Any]) -> ManifestFiles:
    file = folder / "federation.yaml"
    file.write_text(yaml.safe_dump_all(manifests), encoding="utf-8")
    return ManifestFiles((file,))


def opened(folder: Path, *manifests: dict[str, Any], store: str | None = None) -> OpenRun:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data/ct").mkdir(exist_ok=True)
    files = write(folder, *(manifests or MANIFESTS))
    request = Request(files, Volumes(folder / "data", {}), store, 1.0)
    return open_run(request, WorkDir(folder / "run"), OperatorMetrics())


def begun(folder: Path) -> OpenRun:
    """As `opened`, and what the run then remembers of itself is there."""
    run = opened(folder)
    run.workdir.remember(run.identity)
    return run


def test_opening_a_new_run_remembers_nothing(tmp_path: Path) -> None:
    run = opened(tmp_path)
    assert (run.workdir.identity(), run.bucket.store.list("")) == (None, [])


def test_a_run_that_goes_on_keeps_its_identity(tmp_path: Path) -> None:
    assert begun(tmp_path).identity.uid == opened(tmp_path).identity.uid


def test_a_run_that_goes_on_refuses_what_its_records_rule_out(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.bucket.store.put(keys.control(1), encode(build_control()))
    run.bucket.store.put(keys.update("basel", 0, 1), b"{}")
    other = changed(MANIFESTS[1], {"spec.dataSets[0].organs": {"liver": [2]}})
    with pytest.raises(Refusal, match="dataSets"):
        opened(tmp_path, MANIFESTS[0], other, MANIFESTS[2])


def test_a_run_stays_with_the_store_that_it_began_in(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(Refusal, match="keeps its records in"):
        opened(tmp_path, store=str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("control", [build_control(), build_control(2)])
def test_running_it_again_asks_for_another_try_only_where_the_newest_has_failed(
    tmp_path: Path, control: Control
) -> None:
    run = begun(tmp_path)
    for number in range(1, control.number + 1):
        run.bucket.store.put(keys.control(number), encode(build_control(number)))
    run.bucket.store.put(keys.failure(1, 1), encode(Failure(1, 1, "QuorumLost", "gone")))
    assert opened(tmp_path).desired.retried == (1 if control.number == 1 else 0)


def test_an_edit_is_taken_once_when_it_is_seen_twice_alike(tmp_path: Path) -> None:
    edits = Edits(write(tmp_path, *MANIFESTS))
    write(tmp_path, *MANIFESTS[:2])
    assert [edits.take() for _ in range(3)] == [False, True, False]


def test_a_file_that_is_still_being_written_is_left_alone(tmp_path: Path) -> None:
    edits = Edits(write(tmp_path, *MANIFESTS))
    write(tmp_path, *MANIFESTS[:2])
    assert not edits.take()
    write(tmp_path, *MANIFESTS[:1])
    assert [edits.take() for _ in range(2)] == [False, True]


def test_where_records_and_images_lie_is_left_for_the_page(tmp_path: Path) -> None:
    """The folder may be moved with what is in it."""
    run = begun(tmp_path)
    write_index(run.identity, run.wishes, run.workdir)
    index = msgspec.json.decode(run.workdir.run_index.read_bytes(), type=RunHere)
    assert (index.name, index.store, index.prefix) == ("default/abdomen", "bucket", run.identity.prefix)
    assert {alias: (site.data_root, site.state) for alias, site in index.sites.items()} == {
        alias: (str(tmp_path / "data"), f"state/{alias}") for alias in ("basel", "bern")
    }
    assert index.sites["basel"].spec.data_sets == run.wishes.specs["basel"].data_sets
