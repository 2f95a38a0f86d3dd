"""`segviz doctor --join` at a site: what stands in the way is told before `segviz join` meets it."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from builders.synthetic import BASEL, control_of
from integration.ministry import PREFIX, Ministry
from integration.object_stores import Server
from segviz_exchange.contract import keys
from segviz_exchange.contract.join import Invitation, encode_invitation
from segviz_exchange.contract.ledger import encode
from segviz_exchange.stores.credentials import Credentials
from segviz_operator.access.rights import site_access

SEGVIZ = Path(sys.executable).with_name("segviz")
Doctor = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ministry(minio: Server) -> Ministry:
    made = Ministry(minio)
    made.root().scoped(PREFIX).put(keys.control(1), encode(control_of(rounds=5)))
    return made


@pytest.fixture
def invitation(ministry: Ministry) -> Invitation:
    held = ministry.mint(site_access(BASEL))
    return Invitation(ministry.url, "radiology", "abdomen", "0a1b2c3d", BASEL, held)


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    data_set = {"name": "ct", "path": "ct", "layout": "List", "organs": {"liver": [1]}}
    (tmp_path / "data/ct").mkdir(parents=True)

    def run(
        invitation: Invitation, federation: str = "abdomen", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        site = {
            "apiVersion": "segviz.dev/v1alpha1",
            "kind": "SegVizSite",
            "metadata": {"name": BASEL},
            "spec": {
                "remote": True,
                "volume": {"hostPath": {"path": "/data"}},
                "dataSets": [data_set],
                "allowedFederations": [{"namespace": "radiology", "name": federation}],
            },
        }
        (tmp_path / "site.yaml").write_text(yaml.safe_dump(site), encoding="utf-8")
        file = tmp_path / "join.json"
        file.write_bytes(encode_invitation(invitation))
        file.chmod(0o600)
        words = ("doctor", "--join", file, "--site-file", tmp_path / "site.yaml", "--data", tmp_path / "data")
        own = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "KUBE"))}
        done = subprocess.run(
            (SEGVIZ, *map(str, words)),
            capture_output=True,
            encoding="utf-8",
            env={**own, "COLUMNS": "200", **environment},
            timeout=200,
        )
        assert "Traceback" not in done.stdout + done.stderr
        assert invitation.credentials.secret_key not in done.stdout + done.stderr
        return done

    return run


def test_a_site_that_can_join_is_told_so(doctor: Doctor, invitation: Invitation, ministry: Ministry) -> None:
    done = doctor(invitation)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        f"is for {BASEL} in radiology/abdomen",
        "consents, and its data sets are in",
        "is reached directly",
        "the clock agrees with the store's",
        "objects and conditions arrive unchanged",
    ):
        assert said in done.stdout
    # What it tried is where the trainer tries too, and nowhere else.
    found = [entry.key for entry in ministry.root().scoped(PREFIX).list("")]
    assert found == [keys.control(1), f"{keys.preflights(BASEL)}probe"]


def test_an_expired_join_file_says_whom_to_ask(doctor: Doctor, invitation: Invitation) -> None:
    gone = Credentials("nobody", "nothing-of-worth", None, datetime.now(UTC) - timedelta(hours=2))
    done = doctor(replace(invitation, credentials=gone))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the join file's credentials expired at" in done.stdout
    assert "Ask the coordinator of radiology/abdomen for the join file as it is now" in done.stdout


def test_what_is_not_there_is_told(doctor: Doctor, invitation: Invitation) -> None:
    done = doctor(invitation, federation="other")
    assert "does not consent to radiology/abdomen" in done.stdout
    unknown = replace(invitation, store="s3://store.hospital.invalid:9000/segviz")
    done = doctor(unknown)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the store's name store.hospital.invalid cannot be looked up" in done.stdout
    done = doctor(unknown, HTTPS_PROXY="http://127.0.0.1:9", NO_PROXY="")
    assert "is reached through http://127.0.0.1:9" in done.stdout
    assert "the proxy http://127.0.0.1:9 does not answer" in done.stdout
    done = doctor(replace(invitation, store=invitation.store.replace("s3+http", "s3")), NO_PROXY="127.0.0.1")
    assert "the server speaks no TLS there; for plain HTTP write s3+http://" in done.stdout


def test_it_needs_no_client_of_kubernetes(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('kubernetes', 'kopf'))); "
        "from segviz_operator.checkup.command import doctor; doctor()"
    )
    done = subprocess.run(
        (sys.executable, "-c", code, "--join", str(tmp_path / "away.json")),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert "Name the join file that the coordinator sent" in done.stdout
