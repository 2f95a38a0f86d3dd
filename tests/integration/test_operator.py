"""The operator against a real API server and a real MinIO: manifests in, objects, records and status out."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.apiserver import ApiServer
from integration.object_stores import Server
from integration.operator_rig import Rig, install_crds


@pytest.fixture
def rig(apiserver: ApiServer, minio: Server, tmp_path: Path) -> Iterator[Rig]:
    install_crds(apiserver)
    rig = Rig(apiserver, minio, tmp_path, f"t{secrets.token_hex(4)}")
    try:
        yield rig
    finally:
        rig.close()


def test_a_federation_reaches_its_end(rig: Rig):
    rig.begin("basel", "bern")
    rig.start_operator()
    rig.until_condition("Complete")
    status = rig.status()
    assert (status["phase"], status["currentRound"], status["sitesReady"]) == ("Complete", 3, "2/2")
    assert {site["alias"]: site["round"] for site in status["sites"]} == {"basel": 3, "bern": 3}
    assert {each["group"]: each["owners"] for each in status["plan"]}["liver"] == ["basel"]
    assert {"Accepted", "RoundCommitted", "Complete"} <= set(rig.events())
