"""The folder of a local run."""

from pathlib import Path

from segviz_operator.workdir import Identity, WorkDir


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
