"""The command of a trainer with two ranks: killed anywhere and started again, it ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from builders.rig import Rig, small_federation
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import find
from segviz_exchange.contract.records import Outcome
from segviz_exchange.process.exits import Exit
from segviz_exchange.stores.folder import FolderStore

pytestmark = [pytest.mark.full, pytest.mark.timeout(1500)]

PREFIX = "default/cubes-1/"
ROUNDS = 5
PATIENCE_SECONDS = 600


class Site:
    """The command, with the aggregator beside it in this process."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder, small_federation(rounds=ROUNDS), {"basel": ("liver",)})
        self.rig.store = FolderStore(folder / "bucket" / PREFIX)
        self.rig.control()
        self.aggregator = self.rig.aggregator()
        (folder / "site.json").write_bytes(msgspec.json.encode(self.rig.site_spec("basel")))
        self.log = folder / "log"

    def start(self) -> subprocess.Popen[bytes]:
        folder = self.rig.folder
        command = [
            sys.executable,
            "-m",
            "segviz_trainer",
            "participate",
            "--ranks",
            "2",
            "--poll-seconds",
            "0.1",
        ]
        command += ["--store", str(folder / "bucket"), "--prefix", PREFIX, "--site", "basel"]
        command += ["--site-spec", str(folder / "site.json"), "--data-root", str(folder / "data" / "basel")]
        command += ["--state", str(folder / "state" / "basel"), "--stop-on-stdin-eof"]
        with self.log.open("a", encoding="utf-8") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)

    def until(self, launcher: subprocess.Popen[bytes], round_: int) -> None:
        """Merge until a round is committed and the one after it is being trained, or the command ends."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        checkpoints = self.rig.folder / "state" / "basel" / "checkpoints"
        while launcher.poll() is None and not list(checkpoints.glob(f"{round_ + 1:04d}-*")):
            assert time.monotonic() < deadline, self.log.read_text(encoding="utf-8")[-3000:]
            self.aggregator.step()
            time.sleep(0.02)

    def finish(self) -> dict[str, str]:
        launcher = self.start()
        self.until(launcher, ROUNDS)
        assert launcher.wait(PATIENCE_SECONDS) == Exit.DONE, self.log.read_text(encoding="utf-8")[-3000:]
        assert find(self.rig.store, keys.outcome("basel"), Outcome) is not None
        return self.rig.digests()


def ranks_of(launcher: subprocess.Popen[bytes]) -> dict[int, psutil.Process]:
    return {int(each.environ()["RANK"]): each for each in psutil.Process(launcher.pid).children()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return Site(tmp_path_factory.mktemp("undisturbed")).finish()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_ends_the_command_and_changes_no_bit(
    tmp_path: Path, undisturbed: dict[str, str], rank: int
) -> None:
    site = Site(tmp_path)
    launcher = site.start()
    site.until(launcher, 2)
    ranks = ranks_of(launcher)
    ranks[rank].kill()
    assert launcher.wait(PATIENCE_SECONDS) == Exit.RETRY
    assert not [each for each in ranks.values() if each.is_running()]
    assert site.finish() == undisturbed


def test_a_stop_is_heard_and_loses_nothing(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    site = Site(tmp_path)
    launcher = site.start()
    site.until(launcher, 2)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(PATIENCE_SECONDS) == Exit.STOPPED
    assert site.finish() == undisturbed


def test_a_launcher_that_is_killed_leaves_no_rank_behind(tmp_path: Path) -> None:
    site = Site(tmp_path)
    launcher = site.start()
    site.until(launcher, 1)
    ranks = ranks_of(launcher)
    launcher.kill()
    launcher.wait()
    _, alive = psutil.wait_procs(ranks.values(), timeout=60)
    assert not alive
