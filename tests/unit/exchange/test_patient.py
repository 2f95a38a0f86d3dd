"""Waiting for a store that is away, on a clock that only sleeping moves."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from segviz_exchange.contract import ledger, records
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.patient import LONGEST_WAIT_SECONDS, PatientStore
from segviz_exchange.stores.store import AlreadyExists, Denied, NotFound, StoreError, Unavailable, download

LEASE = records.Lease(number=7)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds


class Flaky:
    """Fails as often as told, before or after it has acted."""

    def __init__(
        self, root: Path, failures: int, *, acts: bool = False, error: Exception | None = None
    ) -> None:
        self.store = FolderStore(root)
        self.failures = failures
        self.acts = acts
        self.error = error or Unavailable("s3://host/bucket/key: no answer")
        self.calls = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls <= self.failures:
                if self.acts:
                    getattr(self.store, name)(*arguments)
                raise self.error
            return getattr(self.store, name)(*arguments)

        return call

    def __str__(self) -> str:
        return "s3://host/bucket"


class Cut:
    """Streams that break off after some bytes, as often as told."""

    def __init__(self, store: FolderStore, at: list[int]) -> None:
        self.store = store
        self.at = at
        self.opened = 0

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        self.opened += 1
        with self.store.open(key) as stream:
            yield _Breaking(stream, self.at.pop(0)) if self.at else stream


class _Breaking:
    def __init__(self, stream: BinaryIO, left: int) -> None:
        self.stream, self.left = stream, left

    def read(self, size: int) -> bytes:
        if not self.left:
            raise Unavailable("cut")
        data = self.stream.read(min(size, self.left))
        self.left -= len(data)
        return data


def patient(store: Any, clock: Clock, patience_seconds: float = 600) -> PatientStore:
    return PatientStore(store, patience_seconds, sleep=clock.sleep, clock=clock)


def test_a_store_that_comes_back_was_never_away(tmp_path: Path) -> None:
    clock = Clock()
    store = patient(Flaky(tmp_path, 3), clock)
    store.create("record", b"content")
    assert store.get("record") == b"content"
    assert len(clock.waits) == 3


def test_waits_grow_and_are_bounded(tmp_path: Path) -> None:
    clock = Clock()
    with pytest.raises(Unavailable):
        patient(Flaky(tmp_path, 10**6), clock, 3600).get("record")
    assert max(clock.waits) <= LONGEST_WAIT_SECONDS
    assert sum(clock.waits[:3]) < sum(clock.waits[-3:])
    assert len(set(clock.waits)) == len(clock.waits)  # two sites never knock in step


def test_patience_ends_with_the_store_s_own_words(tmp_path: Path) -> None:
    clock = Clock()
    with pytest.raises(Unavailable, match="s3://host/bucket/key: no answer"):
        patient(Flaky(tmp_path, 10**6), clock, 60).get("record")
    assert 60 <= clock.seconds <= 60 + LONGEST_WAIT_SECONDS


def test_no_patience_asks_once(tmp_path: Path) -> None:
    clock, store = Clock(), Flaky(tmp_path, 1)
    with pytest.raises(Unavailable):
        patient(store, clock, 0).get("record")
    assert store.calls == 1
    assert clock.waits == []


@pytest.mark.parametrize("error", [NotFound("key"), AlreadyExists("key"), Denied("key"), StoreError("key")])
def test_what_waiting_cannot_mend_is_not_waited_for(tmp_path: Path, error: StoreError) -> None:
    clock = Clock()
    with pytest.raises(type(error)):
        patient(Flaky(tmp_path, 1, error=error), clock).get("record")
    assert clock.waits == []


def test_one_line_when_it_goes_and_one_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    patient(Flaky(tmp_path, 4), clock).create("record", b"")
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    away, back = (record.getMessage() for record in caplog.records)
    assert away == "the store does not answer; retrying for 600 s: s3://host/bucket/key: no answer"
    assert back == f"s3://host/bucket: answers again after {clock.seconds:.0f} s"


def test_nothing_is_said_of_a_store_that_never_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Unavailable):
        patient(Flaky(tmp_path, 10**6), Clock()).get("record")
    assert len(caplog.records) == 1


def test_a_create_whose_answer_is_lost_exists(tmp_path: Path) -> None:
    with pytest.raises(AlreadyExists):
        patient(Flaky(tmp_path, 1, acts=True), Clock()).create("record", b"mine")
    assert FolderStore(tmp_path).get("record") == b"mine"


def test_a_commit_whose_answer_is_lost_returns_the_own_record(tmp_path: Path) -> None:
    store = patient(Flaky(tmp_path, 1, acts=True), Clock())
    assert ledger.commit(store, "lease.json", LEASE) == LEASE


def test_a_scope_is_as_patient(tmp_path: Path) -> None:
    class Away(Flaky):
        def scoped(self, prefix: str) -> Flaky:
            return Flaky(tmp_path / prefix, 2)

    clock = Clock()
    patient(Away(tmp_path, 0), clock).scoped("federation/").create("record", b"")
    assert len(clock.waits) == 2


def test_a_download_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    content = bytes(range(256)) * (3 << 12)  # 3 MiB
    store = FolderStore(tmp_path / "store")
    store.create("blob", content)
    clock = Clock()
    cut = Cut(store, [0, 1 << 20, 100, (2 << 20) + 5])
    digest = "a" * 64
    with pytest.raises(StoreError, match="its bytes hash to"):  # whole, though not what the record says
        download(patient(cut, clock), "blob", digest, tmp_path / "cache")
    with patient(Cut(store, [0, 1 << 20, 100, (2 << 20) + 5]), clock).open("blob") as stream:
        assert stream.read() == content
    assert cut.opened == 5


def test_a_missing_object_is_missing_when_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(NotFound), patient(FolderStore(tmp_path), Clock()).open("missing"):
        pytest.fail("it was opened")
