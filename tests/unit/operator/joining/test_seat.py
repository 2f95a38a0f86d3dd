"""A remote site's credentials, from whichever place has the better ones."""

import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace
from rich.console import Console

from segviz_exchange.contract.join import Invitation, encode_invitation
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.signing import load_or_make, public_key
from segviz_operator.joining.seat import Seat, adopt_new_join_file, held_credentials, take_seat

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FIRST = Invitation(
    "s3://store.example/segviz", "radiology", "abdomen", "0a1b", "basel", Credentials("first", "s", "t", NOW)
)


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def seat(tmp_path: Path, said: io.StringIO) -> Seat:
    site = {
        "apiVersion": "segviz.dev/v1alpha1",
        "kind": "SegVizSite",
        "metadata": {"name": "basel"},
        "spec": {
            "remote": True,
            "volume": {"hostPath": {"path": "/data"}},
            "dataSets": [{"name": "ct", "path": ".", "layout": "List", "organs": {"liver": [1]}}],
            "allowedFederations": [{"namespace": "radiology", "name": "abdomen"}],
        },
    }
    manifest = tmp_path / "site.yaml"
    manifest.write_text(yaml.safe_dump(site), encoding="utf-8")
    write(tmp_path / "join.json", FIRST)
    return take_seat(tmp_path / "join.json", manifest, tmp_path, tmp_path / "state", Console(file=said))


def write(path: Path, invitation: Invitation, mode: int = 0o600) -> None:
    path.write_bytes(encode_invitation(invitation))
    path.chmod(mode)


def later(invitation: Invitation, hours: int) -> Invitation:
    credentials = replace(invitation.credentials, access_key="later", expiration=NOW + timedelta(hours=hours))
    return replace(invitation, credentials=credentials)


def test_a_join_file_that_replaces_the_expired_one_is_taken(seat: Seat) -> None:
    assert not adopt_new_join_file(seat)  # it is the same
    write(seat.joinfile, later(FIRST, 1))
    assert adopt_new_join_file(seat)
    assert held_credentials(seat).access_key == "later"
    assert not adopt_new_join_file(seat)


def test_one_that_is_older_broken_or_anothers_is_not(seat: Seat) -> None:
    write(seat.joinfile, later(FIRST, -1))
    assert not adopt_new_join_file(seat)
    write(seat.joinfile, replace(later(FIRST, 1), alias="bern"))
    assert not adopt_new_join_file(seat)
    write(seat.joinfile, replace(later(FIRST, 1), uid="2c3d"))
    assert not adopt_new_join_file(seat)
    seat.joinfile.write_text("{", encoding="utf-8")
    assert not adopt_new_join_file(seat)
    seat.joinfile.unlink()
    assert not adopt_new_join_file(seat)
    assert held_credentials(seat).access_key == "first"


def test_who_else_may_read_the_join_file_matters(seat: Seat, tmp_path: Path, said: io.StringIO) -> None:
    def take() -> None:
        take_seat(seat.joinfile, tmp_path / "site.yaml", tmp_path, tmp_path / "state", Console(file=said))

    assert said.getvalue() == ""
    seat.joinfile.chmod(0o640)
    take()
    assert "can be read by its group" in " ".join(said.getvalue().split())
    seat.joinfile.chmod(0o644)
    with pytest.raises(Refusal, match="anyone on this machine can read it"):
        take()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give the file to somebody else")
def test_a_secret_that_a_pod_reads_by_its_group_is_no_matter(
    seat: Seat, tmp_path: Path, said: io.StringIO
) -> None:
    seat.joinfile.chmod(0o440)
    os.chown(seat.joinfile, 65532, 0)
    take_seat(seat.joinfile, tmp_path / "site.yaml", tmp_path, tmp_path / "state", Console(file=said))
    assert said.getvalue() == ""


def test_a_join_file_of_a_signed_federation_makes_the_site_a_key_and_says_which(
    seat: Seat, tmp_path: Path, said: io.StringIO
) -> None:
    assert not seat.key_file.exists()  # this federation's records are not signed
    assert seat.environment == {}
    write(seat.joinfile, replace(FIRST, coordinator="0" * 64))
    words = (seat.joinfile, tmp_path / "site.yaml", tmp_path, tmp_path / "state", Console(file=said))
    signing = take_seat(*words)
    own = public_key(load_or_make(signing.key_file))
    assert f"signing: {{publicKey: {own}}}" in said.getvalue().replace("\n", " ")
    assert set(signing.environment) == {"SEGVIZ_PARTY", "SEGVIZ_SIGNING_KEY"}
    take_seat(*words)
    assert public_key(load_or_make(signing.key_file)) == own
