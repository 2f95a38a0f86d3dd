"""What a folder does beyond the contract, which tests/integration/test_store_conformance.py tries on it."""

from pathlib import Path

import pytest

from segviz_exchange.folder import FolderStore
from segviz_exchange.store import AlreadyExists, NotFound, StoreError


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
    (store.root.parent / "secret").write_text("secret")
    for act in (store.get, store.delete, lambda key: store.create(key, b""), lambda key: store.put(key, b"")):
        with pytest.raises(StoreError, match="cannot be a key"):
            act(key)


@pytest.mark.parametrize("prefix", ["../", "a/../../", "/etc/"])
def test_no_prefix_leads_out_of_the_folder(store: FolderStore, prefix: str) -> None:
    for act in (store.list, store.scoped):
        with pytest.raises(StoreError, match="cannot be a key"):
            act(prefix)


@pytest.mark.parametrize("key", [".staging/x", "a/.staging/x"])
def test_half_written_files_are_out_of_reach(store: FolderStore, key: str) -> None:
    with pytest.raises(StoreError, match="the store's own"):
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
