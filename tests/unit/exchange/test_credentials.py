"""Credentials in a file that somebody else renews."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.credentials import (
    Credentials,
    CredentialsFile,
    decode_credentials,
    encode_credentials,
)
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.s3 import S3Store

FIRST = Credentials("first", "secret-one", "token", datetime(2026, 11, 24, 12, tzinfo=UTC))
SECOND = Credentials("second", "secret-two")


def write(path: Path, credentials: Credentials) -> None:
    path.write_bytes(encode_credentials(credentials))


def test_what_is_written_is_read() -> None:
    assert decode_credentials(encode_credentials(FIRST), "x") == FIRST
    assert b'"expiration":"2026-11-24T12:00:00Z"' in encode_credentials(FIRST)
    assert decode_credentials(b'{"accessKey": "a", "secretKey": "b"}', "x") == Credentials("a", "b")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'{"accessKey": "hush-a", "secretKey": ""}',
        b'{"accessKey": "hush-a", "secretKey": "hush-b", "more": 1}',
        b'{"accessKey": "hush-a", "secretKey": "hush-b", "expiration": "2026-11-24T12:00:00"}',
        b"\xff",
    ],
)
def test_what_are_no_credentials_is_refused_and_not_quoted(text: bytes) -> None:
    with pytest.raises(Refusal, match=r"^here: not a credentials file") as refusal:
        decode_credentials(text, "here")
    assert "hush" not in str(refusal.value)


def test_a_secret_is_in_no_repr() -> None:
    assert "secret" not in repr(FIRST)
    assert "token" not in repr(FIRST)


def test_a_replaced_file_is_read_at_the_next_request(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    write(path, FIRST)
    source = CredentialsFile(path)
    assert source.retrieve() == FIRST.for_minio()
    write(path, SECOND)
    assert source.retrieve().access_key == "second"


def test_while_the_file_is_away_or_half_written_the_last_ones_hold(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    write(path, FIRST)
    source = CredentialsFile(path)
    path.write_bytes(encode_credentials(SECOND)[:20])
    assert source.retrieve().access_key == "first"
    path.unlink()
    assert source.retrieve().access_key == "first"
    write(path, SECOND)
    assert source.retrieve().access_key == "second"


def test_a_secret_that_kubelet_swaps_by_its_link_is_seen(tmp_path: Path) -> None:
    for name, credentials in (("one", FIRST), ("two", SECOND)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "credentials.json", credentials)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "credentials.json").symlink_to("..data/credentials.json")
    source = CredentialsFile(tmp_path / "credentials.json")
    assert source.retrieve().access_key == "first"
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(tmp_path / "..data")
    assert source.retrieve().access_key == "second"


def test_the_environment_names_file_and_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "credentials.json"
    monkeypatch.setenv("SEGVIZ_STORE_CREDENTIALS", str(path))
    with pytest.raises(Refusal, match="SEGVIZ_STORE_CREDENTIALS"):
        open_store("s3://store.example/bucket")
    write(path, FIRST)
    assert isinstance(open_store("s3://store.example/bucket"), S3Store)
    monkeypatch.setenv("SEGVIZ_STORE_CA", str(path))
    with pytest.raises(Refusal, match=r"SEGVIZ_STORE_CA.*cannot be read as PEM"):
        open_store("s3://store.example/bucket")
    monkeypatch.setenv("SEGVIZ_STORE_CA", str(tmp_path / "missing.crt"))
    with pytest.raises(Refusal, match=r"missing.crt .*cannot be read as PEM"):
        open_store("s3://store.example/bucket")
