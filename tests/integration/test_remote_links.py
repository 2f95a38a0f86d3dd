"""`segviz join` behind a proxy, on a line that is cut or thin, beside a site at the coordinator's.

Real processes; the same bytes as both sites on one machine.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

pytest.importorskip("proxy", reason="proxy.py, the proxy, is not installed; run: make install")
from integration.hospital_link import Link, link
from integration.ministry import Ministry
from integration.secure_store import BUCKET, HOST, Secure
from integration.test_join import Federation, wait_until
from segviz_exchange.contract.join import encode_invitation, read_invitation
from segviz_exchange.stores.s3 import S3Store
from segviz_exchange.stores.s3_access import build_connections
from segviz_operator.access.rights import parent_policy
from segviz_operator.progress.observe import Observer

__all__ = ["link"]

pytestmark = [pytest.mark.full, pytest.mark.timeout(1500)]

ROUNDS = 6
END_SECONDS = 600.0
AWAY_SECONDS = 5.0
CUT_SECONDS = 60.0
THIN_BITS_A_SECOND = 1e6
MODEL = {"channels": [16, 32], "strides": [2], "residualUnits": 1}
"""Some hundred kilobytes: seconds on a thin line."""


@dataclass
class SecureMinistry(Ministry):
    """Its store speaks TLS, without which nothing goes through a proxy."""

    secure: Secure = field(kw_only=True)

    def __post_init__(self) -> None:
        self.bucket = BUCKET
        self.add_policy(BUCKET, parent_policy(BUCKET))
        self.parent = self.user()

    @property
    def url(self) -> str:
        return self.secure.url

    def root(self) -> S3Store:
        provider = StaticProvider(self.server.access_key, self.server.secret_key)
        return S3Store.from_url(self.url, provider, ca_file=self.secure.ca)

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "SEGVIZ_STORE_CA": str(self.secure.ca)}

    def _admin(self) -> MinioAdmin:
        root = StaticProvider(self.server.access_key, self.server.secret_key)
        connections = build_connections(f"https://{self.server.address}", ca_file=self.secure.ca)
        return MinioAdmin(endpoint=self.server.address, credentials=root, http_client=connections)


@dataclass
class Distant(Federation):
    """chur reaches the store by its link alone: its join file has a name that nobody here can look up."""

    link: Link = field(kw_only=True)

    def join_behind(self) -> subprocess.Popen[str]:
        wait_until(self.invitation.exists, "no join file")
        given = read_invitation(self.invitation)
        port = self.ministry.server.address.rpartition(":")[2]
        theirs = msgspec.structs.replace(given, store=f"s3://{HOST}:{port}/{BUCKET}")
        file = self.root / "chur.json"
        file.write_bytes(encode_invitation(theirs))
        file.chmod(0o600)
        folders = ("--data", self.root / "data/chur", "--state", self.root / "laptop")
        words = ("join", file, "--site", self.root / "chur.yaml", *folders)
        return self._start(words, {"HTTPS_PROXY": self.link.line.url, "NO_PROXY": ""})


@pytest.fixture
def distant(secure: Secure, link: Link, tmp_path: Path) -> Iterator[Distant]:
    made = Distant(tmp_path, SecureMinistry(secure.server, secure=secure), link=link)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 0, said
    return said


def on_one_machine(folder: Path) -> dict[int, str]:
    """What the same federation comes to with both sites here and a folder as store."""
    folder.mkdir()
    alone = Federation(folder, None)  # type: ignore[arg-type]
    federation, basel, _ = alone.manifests(ROUNDS, model=MODEL)
    words = ("run", federation, basel, alone.site("chur", remote=False), "--workdir", alone.workdir.root)
    finish(alone._start(words, {}))
    identity = alone.workdir.identity()
    assert identity is not None
    return {number: record.blob for number, record in Observer(identity.open_store()).read().rounds.items()}


def proxy_away(link: Link) -> None:
    link.stop_proxy()
    time.sleep(AWAY_SECONDS)
    link.start_proxy(link.proxy.port)


def cut(link: Link) -> None:
    link.line.silence()
    time.sleep(CUT_SECONDS)
    link.line.mend()


def thin(link: Link) -> None:
    link.line.slow(THIN_BITS_A_SECOND)


@pytest.mark.parametrize(
    "fault", [proxy_away, cut, thin], ids=["proxy restarted", "cut for 60 s", "1 Mbit/s"]
)
def test_a_bad_link_changes_no_byte(distant: Distant, fault: Callable[[Link], None]) -> None:
    wanted = on_one_machine(distant.root / "alone")
    runner = distant.run(ROUNDS, model=MODEL)
    laptop = distant.join_behind()
    wait_until(lambda: (distant.records().newest_round or 0) >= 1, "no round")
    fault(distant.link)
    assert (distant.records().newest_round or 0) < ROUNDS
    finish(laptop)
    finish(runner)
    assert {number: record.blob for number, record in distant.records().rounds.items()} == wanted
    log = next((distant.root / "laptop").rglob("trainer-chur.log")).read_text(encoding="utf-8")
    assert "Traceback" not in log
    if fault is not thin:
        assert "answers again" in log
