"""A site's real process, from its command line to its exit code."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from builders.rig import Rig, site_spec, small_federation
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import read
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.process.exits import Exit


def participate(rig: Rig, alias: str, spec: object) -> subprocess.CompletedProcess:
    file = rig.folder / "site.json"
    file.write_bytes(msgspec.json.encode(spec))
    words = [sys.executable, "-m", "segviz_trainer", "participate", "--store", str(rig.folder)]
    words += ["--prefix", "bucket/", "--site", alias, "--site-spec", str(file), "--poll-seconds", "0.1"]
    words += ["--data-root", str(rig.folder / "data" / alias), "--state", str(rig.folder / "state" / alias)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words, capture_output=True, encoding="utf-8", timeout=120, check=False, env=environment
    )


def test_a_bad_case_refuses_the_site_by_name_without_a_traceback(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(), {"basel": ("liver",)})
    rig.control()
    bad = tmp_path / "data/basel/image03.nii.gz"
    bad.write_bytes(bad.read_bytes()[:200])
    ended = participate(rig, "basel", site_spec(("liver",)))
    assert ended.returncode == Exit.REFUSED, ended.stderr
    assert "image03.nii.gz" in ended.stderr
    assert "Traceback" not in ended.stderr
    progress = read(rig.store, keys.progress("basel"), Progress)
    assert progress.phase is Phase.FAILED
    assert progress.message.startswith("1 of 10 cases cannot be used.")


def test_a_store_that_is_none_refuses_the_process(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(), {"basel": ("liver",)})
    rig.control()
    file = tmp_path / "site.json"
    file.write_bytes(msgspec.json.encode(site_spec(("liver",))))
    words = [sys.executable, "-m", "segviz_trainer", "participate", "--store", "gopher://nowhere"]
    words += ["--prefix", "x/", "--site", "basel", "--site-spec", str(file)]
    words += ["--data-root", str(tmp_path), "--state", str(tmp_path / "state")]
    ended = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert ended.returncode == Exit.REFUSED, ended.stderr
    assert "gopher" in ended.stderr
    assert "Traceback" not in ended.stderr
