"""The contract of a store, on a folder and on real S3 servers; and that its checks can fail."""

import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from integration.object_stores import Server
from segviz_exchange.cli import main
from segviz_exchange.contract import ledger, records
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.conformance import (
    CHECKS,
    Check,
    ContractBroken,
    check_store,
    of_racing_creates_one_wins,
)
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.patient import PatientStore
from segviz_exchange.stores.probe import probe
from segviz_exchange.stores.s3 import S3Store
from segviz_exchange.stores.store import AlreadyExists, Denied, NotFound, Store, StoreError, Unavailable


@pytest.fixture(params=["folder", "minio", "versitygw"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path)
    server: Server = request.getfixturevalue(request.param)
    return server.store(server.make_bucket())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_store_keeps_the_contract(store: Store, check: Check) -> None:
    check(store.scoped("federation/"))


def test_a_store_passes_the_probe(store: Store) -> None:
    probe(store)
    assert store.list("") == []


def test_checking_leaves_nothing_behind(store: Store) -> None:
    assert [result.broken for result in check_store(store)] == [None] * len(CHECKS)
    assert store.list("") == []


class CheckThenPut(FolderStore):
    """What a gateway does that knows conditions, and does not know of concurrency."""

    def create(self, key: str, data: bytes) -> None:
        try:
            self.get(key)
        except NotFound:
            self.put(key, data)
        else:
            raise AlreadyExists(key)

    def scoped(self, prefix: str) -> "CheckThenPut":
        return CheckThenPut(self.root / prefix)


class Unconditional(FolderStore):
    """What a store does that ignores a header it does not know."""

    def create(self, key: str, data: bytes) -> None:
        self.put(key, data)

    def scoped(self, prefix: str) -> "Unconditional":
        return Unconditional(self.root / prefix)


def test_a_store_that_checks_and_then_puts_is_found_out(tmp_path: Path) -> None:
    broken = [result for result in check_store(CheckThenPut(tmp_path)) if result.broken]
    assert [result.promise for result in broken] == ["of racing creates one wins"]


@pytest.mark.parametrize("kind", [CheckThenPut, Unconditional])
def test_two_winners_are_said_to_be_two(tmp_path: Path, kind: Callable[[Path], Store]) -> None:
    with pytest.raises(ContractBroken, match=r"creates [2-8] won: this store cannot hold a federation"):
        of_racing_creates_one_wins(kind(tmp_path))


def test_the_probe_refuses_a_store_without_conditions(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="of two racing creates of one key, 2 won"):
        probe(Unconditional(tmp_path))


def test_the_command_says_why_a_store_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segviz_exchange.stores.probe.open_store", lambda url, **_: Unconditional(tmp_path))
    result = CliRunner().invoke(main, ["store", "check", "anywhere"])
    assert result.exit_code == 1
    assert "✗ of racing creates one wins\n  of 8 racing creates 8 won" in result.output
    assert "✓ a put replaces" in result.output
    assert "Use one that honours If-None-Match" in result.output


def test_the_command_accepts_minio(minio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio.secret_key)
    result = CliRunner().invoke(main, ["store", "check", minio.url(minio.make_bucket()) + "/some/prefix"])
    assert result.exit_code == 0, result.output
    assert result.output.count("✓") == len(CHECKS)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("s3+http://{address}/no-such-bucket", "no-such-bucket/{}: this bucket does not exist"),
        ("s3+http://127.0.0.1:1/bucket", "The store does not answer"),
        ("s3://{address}/bucket", "the server speaks no TLS there"),
        ("s3+http://{address}", "needs a host and a bucket"),
        ("s3+http://{address}/Bucket_", "invalid bucket name"),
        ("s3+http://{address}/bucket/../other", "is not a valid key"),
        ("s3+http://key:word@{address}/bucket", "leave them out of the URL"),
        ("ftp://{address}/bucket", "'ftp' is not a kind of store"),
    ],
)
def test_the_command_says_why_it_cannot_ask(
    minio: Server, monkeypatch: pytest.MonkeyPatch, url: str, complaint: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio.secret_key)
    result = CliRunner().invoke(main, ["store", "check", url.format(address=minio.address)])
    assert result.exit_code == 2, result.output
    assert complaint.split("{}")[0] in result.output
    assert complaint.split("{}")[-1] in result.output
    assert "word" not in result.output


def test_wrong_credentials_are_denied_and_never_shown(minio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    bucket = minio.make_bucket()
    result = CliRunner().invoke(main, ["store", "check", minio.url(bucket)])
    assert result.exit_code == 2
    assert "The credentials must grant" in result.output
    assert bucket in result.output
    assert "a-wrong-secret" not in result.output
    with pytest.raises(Denied):
        S3Store.from_url(minio.url(bucket)).get("record")


def test_no_credentials_are_said_to_be_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "MINIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Refusal, match="Set AWS_ACCESS_KEY_ID"):
        open_store("s3://127.0.0.1/bucket")


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/./b"])
def test_a_key_that_could_mean_another_is_refused(store: Store, key: str) -> None:
    for act in (store.get, store.delete, lambda key: store.create(key, b""), store.scoped):
        if act == store.scoped and key == "a/":
            continue
        with pytest.raises(StoreError, match="is not a valid key"):
            act(key)


class CuttingProxy:
    """Passes bytes on, until it is told to swallow an answer, or what is left of it, and to hang up."""

    def __init__(self, target: str) -> None:
        host, _, port = target.partition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._cuts_left = 0
        self._after_bytes = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_once(self, after_bytes: int = 0) -> None:
        """Hang up when a connection has brought this many bytes of answers."""
        self._cuts_left, self._after_bytes = 1, after_bytes

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(self._target)
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                server.sendall(data)
        except OSError:
            return  # cut from the other side
        server.close()

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        passed = 0
        try:
            while data := server.recv(65536):
                if self._cuts_left and passed + len(data) > self._after_bytes:
                    self._cuts_left -= 1
                    break
                client.sendall(data)
                passed += len(data)
        except OSError:
            return
        client.shutdown(socket.SHUT_RDWR)
        client.close()


@pytest.fixture
def proxy(minio: Server) -> Iterator[CuttingProxy]:
    with closing(CuttingProxy(minio.address)) as proxy:
        yield proxy


LEASE = records.Lease(number=7)


def test_a_create_whose_answer_is_lost_is_read_back(minio: Server, proxy: CuttingProxy) -> None:
    bucket = minio.make_bucket()
    waits: list[float] = []
    patient = PatientStore(minio.store(bucket, proxy.address), 60, sleep=waits.append)
    proxy.cut_once()
    with pytest.raises(AlreadyExists):
        patient.create("raw", b"mine")
    assert len(waits) == 1
    proxy.cut_once()
    assert ledger.commit(patient, "lease.json", LEASE) == LEASE
    assert len(waits) == 2
    assert ledger.read(minio.store(bucket), "lease.json", records.Lease) == LEASE


def test_without_patience_a_lost_answer_is_unavailable(minio: Server, proxy: CuttingProxy) -> None:
    bucket = minio.make_bucket()
    hasty = minio.store(bucket, proxy.address)
    proxy.cut_once()
    with pytest.raises(Unavailable, match=f"{proxy.address}/{bucket}/raw"):
        hasty.create("raw", b"mine")
    assert minio.store(bucket).get("raw") == b"mine"


def test_a_download_survives_its_connection(minio: Server, proxy: CuttingProxy, tmp_path: Path) -> None:
    bucket = minio.make_bucket()
    blob = secrets.token_bytes(5 << 20)
    (tmp_path / "blob").write_bytes(blob)
    minio.store(bucket).upload("blob", tmp_path / "blob")
    waits: list[float] = []
    patient = PatientStore(minio.store(bucket, proxy.address), 60, sleep=waits.append)
    proxy.cut_once(after_bytes=1 << 20)
    with patient.open("blob") as stream:
        assert stream.read() == blob
    assert len(waits) == 1


def test_a_stream_that_is_cut_is_unavailable(minio: Server, proxy: CuttingProxy, tmp_path: Path) -> None:
    bucket = minio.make_bucket()
    (tmp_path / "blob").write_bytes(bytes(5 << 20))
    minio.store(bucket).upload("blob", tmp_path / "blob")
    proxy.cut_once(after_bytes=2 << 20)
    with minio.store(bucket, proxy.address).open("blob") as stream:
        assert stream.read(1000) == bytes(1000)
        with pytest.raises(Unavailable, match=f"{bucket}/blob"):
            stream.read()
