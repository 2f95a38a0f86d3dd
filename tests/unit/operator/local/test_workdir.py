"""The folder of a local run."""

import os
import stat
from pathlib import Path

import pytest

from segviz_exchange.process.errors import Refusal
from segviz_operator.local.identity import Identity
from segviz_operator.local.workdir import WorkDir


def identity(store: str) -> Identity:
    return Identity("default", "abdomen", "1a2b3c4d", store, (), {})


def test_a_run_that_was_moved_finds_its_own_bucket(tmp_path: Path) -> None:
    before = WorkDir(tmp_path / "before")
    before.root.mkdir()
    before.remember(identity(str(before.bucket)))
    (tmp_path / "before").rename(tmp_path / "after")
    moved = WorkDir(tmp_path / "after").identity()
    assert moved is not None
    assert moved.store == str(tmp_path / "after/bucket")


def test_a_store_elsewhere_stays_where_it_is(tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path)
    workdir.remember(identity("s3://store.example/segviz"))
    found = workdir.identity()
    assert found is not None
    assert found.store == "s3://store.example/segviz"


def test_a_refused_run_leaves_no_folder_that_it_made(tmp_path: Path) -> None:
    with pytest.raises(Refusal), WorkDir(tmp_path / "runs/abdomen").lock():
        raise Refusal("the data are not there")
    assert list(tmp_path.iterdir()) == []


def test_a_refused_run_leaves_a_folder_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(Refusal), WorkDir(tmp_path).lock():
        raise Refusal("the data are not there")
    assert (tmp_path / "mine.txt").exists()


def test_a_run_that_has_begun_keeps_its_folder(tmp_path: Path) -> None:
    workdir = WorkDir(tmp_path / "run")
    with workdir.lock():
        workdir.remember(identity(str(workdir.bucket)))
    assert workdir.identity() is not None


def test_a_run_is_closed_to_others_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        workdir = WorkDir(tmp_path / "runs/abdomen")
        with workdir.lock():
            workdir.remember(identity(str(workdir.bucket)))
    finally:
        os.umask(before)
    assert stat.S_IMODE(workdir.root.stat().st_mode) == 0o700


def test_a_place_where_no_folder_can_be_is_refused() -> None:
    with (
        pytest.raises(Refusal, match="/proc/foo/w: cannot be a --workdir"),
        WorkDir(Path("/proc/foo/w")).lock(),
    ):
        pass
