"""Who may go on with the records of an earlier federation, and when."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builders.federations import build_control, build_spec
from builders.snapshots import snapshot
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import commit, read
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.contract.records import Holder
from segviz_exchange.stores.folder import FolderStore
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.reconcile.adoption import hold
from segviz_operator.cluster.reconcile.outcome import NotBegun
from segviz_operator.progress.facts import FederationRecords

OLD, NEW, NEWER = (f"{number}1111111-2222-3333-4444-555555555555" for number in (1, 2, 3))
EARLIER = Subject("radiology", "abdomen", OLD)
LATER = Subject("radiology", "abdomen", NEW, adopted=OLD)
BEATING = snapshot(build_control(), progress={"basel": Progress(lease=1, phase=Phase.TRAINING)})
"""Basel wrote its heartbeat 2 s ago."""
SILENT = snapshot(build_control())


def held(tmp_path: Path, subject: Subject, records: FederationRecords, **changes: Any) -> str | None:
    """The reason why it may not go on; None where it may."""
    bucket: Any = SimpleNamespace(store=FolderStore(tmp_path))
    remote, silent = changes.pop("remote", frozenset()), changes.pop("silent", timedelta(seconds=300))
    try:
        hold(bucket, subject, build_spec(**changes), records, remote, silent)
    except NotBegun as error:
        return error.reason
    return None


def test_who_began_the_records_goes_on_and_nothing_is_written(tmp_path: Path) -> None:
    assert held(tmp_path, EARLIER, BEATING) is None
    assert FolderStore(tmp_path).list("") == []


def test_who_goes_on_says_so_once_in_the_bucket(tmp_path: Path) -> None:
    assert LATER.prefix == EARLIER.prefix
    assert held(tmp_path, LATER, SILENT) is None
    holder = read(FolderStore(tmp_path), keys.holder(1), Holder)
    assert holder == Holder(1, NEW)
    # From now on all are at work, and it is the one.
    assert held(tmp_path, LATER, replace(BEATING, holder=holder)) is None
    assert len(FolderStore(tmp_path).list("")) == 1


def test_who_was_taken_over_does_nothing_more(tmp_path: Path) -> None:
    assert held(tmp_path, EARLIER, replace(SILENT, holder=Holder(1, NEW))) == "TakenOver"


def test_of_two_that_take_over_at_once_one_does(tmp_path: Path) -> None:
    commit(FolderStore(tmp_path), keys.holder(1), Holder(1, NEWER))
    assert held(tmp_path, LATER, SILENT) == "TakenOver"


def test_nobody_takes_over_from_who_is_at_work(tmp_path: Path) -> None:
    assert held(tmp_path, LATER, BEATING) == "StillAlive"
    assert FolderStore(tmp_path).list("") == []
    assert held(tmp_path, LATER, BEATING, silent=timedelta(seconds=1)) is None


def test_a_remote_site_is_at_work_whatever_becomes_of_a_cluster(tmp_path: Path) -> None:
    assert held(tmp_path, LATER, BEATING, remote=frozenset({"basel"})) is None


def test_where_there_are_no_records_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    assert held(tmp_path, LATER, replace(SILENT, control=None)) == "NothingToAdopt"


@pytest.mark.parametrize("change", [{"rounds": 77}, {"seed": 5}, {"localEpochs": 9}])
def test_it_goes_on_as_it_began_or_not_at_all(tmp_path: Path, change: dict[str, Any]) -> None:
    assert held(tmp_path, LATER, SILENT, **change) == "AdoptedDiffers"
