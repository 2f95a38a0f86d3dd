"""What a folder does beyond the contract, which tests/integration/test_store_conformance.py tries on it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores import folder
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.store import AlreadyExists, Denied, NotFound, StoreError, Unavailable


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_a_folder_is_made_when_it_is_needed(store: FolderStore) -> None:
    assert store.list("") == []
    store.create("global/rounds/0000.json", b"{}")
    assert files(store.root) == ["global/rounds/0000.json"]


def test_a_refused_create_leaves_no_file_behind(store: FolderStore) -> None:
    store.create("record", b"first")
    with pytest.raises(AlreadyExists):
        store.create("record", b"second")
    assert files(store.root) == ["record"]


@pytest.mark.parametrize(
    "key", ["", "/", "/etc/passwd", "..", "../secret", "a/../../secret", "a//b", "./a", "a/"]
)
def test_no_key_leads_out_of_the_folder_or_has_two_names(store: FolderStore, key: str) -> None:
    (store.root.parent / "secret").write_text("secret", encoding="utf-8")
    for act in (store.get, store.delete, lambda key: store.create(key, b""), lambda key: store.put(key, b"")):
        with pytest.raises(StoreError, match="is not a valid key"):
            act(key)


@pytest.mark.parametrize("prefix", ["../", "a/../../", "/etc/"])
def test_no_prefix_leads_out_of_the_folder(store: FolderStore, prefix: str) -> None:
    for act in (store.list, store.scoped):
        with pytest.raises(StoreError, match="is not a valid key"):
            act(prefix)


@pytest.mark.parametrize("key", [".staging/x", "a/.staging/x"])
def test_half_written_files_are_out_of_reach(store: FolderStore, key: str) -> None:
    with pytest.raises(StoreError, match="is reserved"):
        store.create(key, b"")


def test_half_written_files_are_never_listed(store: FolderStore) -> None:
    (store.root / ".staging").mkdir(parents=True)
    (store.root / ".staging" / "1-abandoned").write_bytes(b"half")
    assert store.list("") == []
    assert store.list(".stag") == []


def test_an_object_cannot_hold_others(store: FolderStore) -> None:
    store.create("a", b"")
    for key in ("a/b", "a/b/c"):
        with pytest.raises(StoreError, match="is an object") as raised:
            store.create(key, b"")
        assert type(raised.value) is StoreError
    assert files(store.root) == ["a"]


def test_a_folder_is_no_object(store: FolderStore) -> None:
    store.create("a/b", b"kept")
    for read in (store.get, lambda key: store.open(key).__enter__()):
        for key in ("a", "a/b/c"):
            with pytest.raises(NotFound):
                read(key)
    store.delete("a")
    store.delete("a/b/c")
    assert store.get("a/b") == b"kept"
    with pytest.raises(StoreError, match="cannot be written"):
        store.create("a", b"")
    with pytest.raises(StoreError, match="cannot be written"):
        store.put("a", b"")


def test_what_a_delete_empties_goes_too(store: FolderStore) -> None:
    scope = store.scoped("federation/")
    scope.create("a/b/c", b"")
    scope.create("a/d", b"")
    scope.delete("a/b/c")
    assert not (store.root / "federation/a/b").exists()
    scope.delete("a/d")
    assert not (store.root / "federation").exists()
    assert store.root.exists()


def test_two_views_of_one_tree_share_it(store: FolderStore) -> None:
    store.scoped("federation/").create("record", b"one")
    assert FolderStore(store.root / "federation").get("record") == b"one"
    FolderStore(store.root / "federation").create("other", b"two")
    assert [entry.key for entry in store.list("")] == ["federation/other", "federation/record"]


ERRORS = [
    (errno.ENOSPC, Unavailable),
    (errno.EDQUOT, Unavailable),
    (errno.EIO, Unavailable),
    (errno.ESTALE, Unavailable),
    (errno.EROFS, Unavailable),
    (errno.EACCES, Denied),
    (errno.EPERM, Denied),
    (errno.ENAMETOOLONG, StoreError),
]


def failing(number: int) -> Callable[..., int]:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture(params=ERRORS, ids=lambda error: errno.errorcode[error[0]])
def error(request: pytest.FixtureRequest) -> tuple[int, type[StoreError]]:
    return request.param


def test_a_write_that_fails_says_what_to_do_about_it(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: tuple[int, type[StoreError]]
) -> None:
    (tmp_path / "blob").write_bytes(b"blob")
    store.create("there", b"")
    monkeypatch.setattr(os, "fsync", failing(error[0]))
    writes: list[Callable[[], object]] = [
        lambda: store.create("a/key", b"content"),
        lambda: store.upload("a/key", tmp_path / "blob"),
    ]
    _expect_failures(store, writes, error)


def test_a_heartbeat_or_a_clock_that_fails_says_what_to_do_about_it(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, error: tuple[int, type[StoreError]]
) -> None:
    store.create("there", b"")
    monkeypatch.setattr(folder, "_leave", failing(error[0]))
    _expect_failures(store, [lambda: store.put("a/key", b"content"), store.now], error)


def test_a_heartbeat_does_not_wait_for_the_disk(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("sites/basel/progress.json", b"first")
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    store.put("sites/basel/progress.json", b"second")
    assert store.get("sites/basel/progress.json") == b"second"
    store.now()


def _expect_failures(
    store: FolderStore, writes: list[Callable[[], object]], error: tuple[int, type[StoreError]]
) -> None:
    number, kind = error
    for write in writes:
        with pytest.raises(StoreError, match=os.strerror(number)) as raised:
            write()
        assert type(raised.value) is kind
    assert files(store.root) == ["there"]  # what was half written is gone: it may be what filled the disk


def test_a_read_that_fails_says_what_to_do_about_it(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, error: tuple[int, type[StoreError]]
) -> None:
    number, kind = error
    store.create("a/key", b"content")
    reads: list[Callable[[], object]] = [
        lambda: store.get("a/key"),
        lambda: store.list("a/"),
        lambda: store.delete("a/key"),
    ]
    for name in ("scandir", "unlink"):
        monkeypatch.setattr(os, name, failing(number))
    monkeypatch.setattr(folder, "_File", failing(number))
    for read in reads:
        with pytest.raises(StoreError, match=os.strerror(number)) as raised:
            read()
        assert type(raised.value) is kind


def test_a_stream_that_breaks_off_is_the_store_s_failure(store: FolderStore) -> None:
    store.create("a/key", b"content")
    with store.open("a/key") as stream:
        os.close(stream.fileno())
        with pytest.raises(StoreError, match="a/key: Bad file descriptor"):
            stream.read(1)
        # The number is free again: nobody else's file may be closed at the end.
        os.dup2(os.open(os.devnull, os.O_RDONLY), stream.fileno())


def test_a_reader_s_own_failure_is_not_the_store_s(store: FolderStore) -> None:
    store.create("a/key", b"content")
    with pytest.raises(OSError, match="its own disk"), store.open("a/key"):
        raise OSError(errno.ENOSPC, "its own disk")


def test_what_killed_writers_left_goes_after_a_day(store: FolderStore, tmp_path: Path) -> None:
    staging = store.root / ".staging"
    staging.mkdir(parents=True)
    (staging / "1-old").write_bytes(b"half")
    (staging / "2-new").write_bytes(b"half")
    two_days_ago = store.now().timestamp() - 2 * 86400
    os.utime(staging / "1-old", (two_days_ago, two_days_ago))
    (tmp_path / "blob").write_bytes(b"blob")
    store.upload("blobs/1", tmp_path / "blob")
    assert files(store.root) == [".staging/2-new", "blobs/1"]


@pytest.mark.parametrize("url", ["", " ", "file://"])
def test_no_folder_is_not_this_folder(url: str) -> None:
    with pytest.raises(Refusal, match="is empty"):
        open_store(url)
