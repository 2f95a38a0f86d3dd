"""A blob on its way to a local file: whole, the one that was pinned, and no larger than said."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.store import Corrupt, download

CONTENT = bytes(range(256)) * 8192  # 2 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "store")
    store.create("blob", CONTENT)
    return store


def test_a_blob_becomes_a_file_named_by_its_digest(store: FolderStore, tmp_path: Path) -> None:
    path = download(store, "blob", DIGEST, tmp_path / "cache")
    assert path == tmp_path / "cache" / DIGEST
    assert path.read_bytes() == CONTENT


def test_a_whole_file_is_not_fetched_again(store: FolderStore, tmp_path: Path) -> None:
    path = download(store, "blob", DIGEST, tmp_path / "cache")
    store.delete("blob")
    assert download(store, "blob", DIGEST, tmp_path / "cache") == path


def test_a_file_that_a_power_cut_has_truncated_is_fetched_again(store: FolderStore, tmp_path: Path) -> None:
    path = download(store, "blob", DIGEST, tmp_path / "cache")
    os.truncate(path, 1000)
    assert download(store, "blob", DIGEST, tmp_path / "cache").read_bytes() == CONTENT


def test_a_file_is_on_disk_before_it_has_its_name(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    target = tmp_path / "cache" / DIGEST

    def fsync(descriptor: int) -> None:
        assert not target.exists()
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    download(store, "blob", DIGEST, tmp_path / "cache")
    assert synced == [len(CONTENT)]


def test_who_fetches_all_again_after_a_crash_does_not_wait_for_the_disk(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        pytest.fail("has waited for the disk")

    monkeypatch.setattr(os, "fsync", fsync)
    path = download(store, "blob", DIGEST, tmp_path / "cache", outlasts_power_cut=False)
    assert path.read_bytes() == CONTENT


def test_two_at_once_do_not_write_into_one_file(store: FolderStore, tmp_path: Path) -> None:
    class Twice(FolderStore):
        @contextmanager
        def open(self, key: str) -> Iterator[BinaryIO]:
            with store.open(key) as stream:
                yield stream
                download(store, key, DIGEST, tmp_path / "cache")  # while the first is not done

    path = download(Twice(store.root), "blob", DIGEST, tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert names(tmp_path / "cache") == [DIGEST]


def test_other_bytes_leave_nothing_behind(store: FolderStore, tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="its bytes hash to"):
        download(store, "blob", "a" * 64, tmp_path / "cache")
    assert names(tmp_path / "cache") == []


def test_more_bytes_than_said_are_not_fetched(store: FolderStore, tmp_path: Path) -> None:
    os.truncate(store.root / "blob", 50 << 30)  # sparse: it takes no room
    with pytest.raises(Corrupt, match="blob: has more than the 2097152 bytes expected"):
        download(store, "blob", DIGEST, tmp_path / "cache", len(CONTENT))
    assert names(tmp_path / "cache") == []


def test_as_many_bytes_as_said_are_fetched(store: FolderStore, tmp_path: Path) -> None:
    assert download(store, "blob", DIGEST, tmp_path / "cache", len(CONTENT)).read_bytes() == CONTENT
