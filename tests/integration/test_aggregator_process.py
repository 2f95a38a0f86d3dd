"""The aggregator as a process: how it is stopped, and what its exit code says."""

import fcntl
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from builders.disturbances import Around
from builders.rounds import (
    CONTROL,
)
from builders.synthetic import (
    write_control,
)
from segviz_aggregator.loop import Aggregator, run
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import encode, find
from segviz_exchange.contract.progress import Progress
from segviz_exchange.contract.records import Final
from segviz_exchange.process.exits import Exit
from segviz_exchange.process.pace import Pace
from segviz_exchange.process.stopping import Stop
from segviz_exchange.process.waiting import Silence, Waiting
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.patient import PatientStore
from segviz_exchange.stores.store import Store, Unavailable


def command(folder: Path, *options: str) -> list[str]:
    places = ["--store", str(folder), "--prefix", "ns/name-uid/", "--scratch", str(folder / "scratch")]
    return [sys.executable, "-m", "segviz_aggregator", *places, "--poll-seconds", "60", *options]


def heard(folder: Path) -> Store:
    """The federation's store, once its aggregator waits for the first control."""
    store = FolderStore(folder / "ns/name-uid")
    while find(store, keys.AGGREGATOR_PROGRESS, Progress) is None:
        time.sleep(0.02)
    return store


def test_a_signal_stops_the_process_with_its_own_code(tmp_path: Path) -> None:
    with subprocess.Popen(command(tmp_path)) as process:
        heard(tmp_path)
        process.terminate()
        assert process.wait(timeout=10) == Exit.STOPPED


def test_the_process_ends_with_the_parent_that_holds_its_stdin(tmp_path: Path) -> None:
    with subprocess.Popen(command(tmp_path, "--stop-on-stdin-eof"), stdin=subprocess.PIPE) as process:
        heard(tmp_path)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=10) == Exit.STOPPED


def test_the_process_ends_well_where_training_is_over(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "ns/name-uid")
    write_control(store, CONTROL)
    store.create(keys.FINAL, encode(Final(1, 1, {})))
    assert subprocess.run(command(tmp_path), timeout=60, check=False).returncode == Exit.DONE


def test_a_control_from_another_version_is_refused(tmp_path: Path) -> None:
    FolderStore(tmp_path / "ns/name-uid").create(keys.control(1), b'{"number": 1, "novelty": true}')
    assert subprocess.run(command(tmp_path), timeout=60, check=False).returncode == Exit.REFUSED


def test_a_second_process_waits_for_the_first_one_s_scratch(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / ("a" * 64)).write_bytes(b"the first one's")
    with (scratch / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(command(tmp_path), stderr=subprocess.PIPE, encoding="utf-8") as process:
            assert process.stderr is not None
            assert "waiting for another aggregator" in process.stderr.readline()
            process.terminate()
            assert process.wait(timeout=10) == Exit.STOPPED
        assert (scratch / ("a" * 64)).read_bytes() == b"the first one's"
        with subprocess.Popen(command(tmp_path), stderr=subprocess.PIPE, encoding="utf-8") as process:
            assert process.stderr is not None
            process.stderr.readline()
            fcntl.flock(lock, fcntl.LOCK_UN)
            heard(tmp_path)
            process.terminate()
            assert process.wait(timeout=10) == Exit.STOPPED


def test_a_store_on_which_two_creates_win_is_refused(tmp_path: Path) -> None:
    unconditional = (
        "from segviz_exchange.stores.folder import FolderStore\n"
        "FolderStore.create = FolderStore.put\n"
        "from segviz_aggregator.__main__ import main\n"
        "main()"
    )
    arguments = command(tmp_path)[3:]
    done = subprocess.run(
        [sys.executable, "-c", unconditional, *arguments], timeout=60, check=False, capture_output=True
    )
    assert done.returncode == Exit.REFUSED
    assert b"of two racing creates of one key, 2 won" in done.stderr
    assert FolderStore(tmp_path).list("") == []


class Away(Around):
    """Asks to be stopped while it is away."""

    def now(self) -> datetime:
        signal.raise_signal(signal.SIGTERM)
        raise Unavailable("no route to host")


def test_a_stop_does_not_wait_for_a_store_that_is_away(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        stop = Stop()
        store = PatientStore(Away(FolderStore(tmp_path / "store")), patience_seconds=3600)
        waiting = Waiting(Pace(60), stop, Silence(stop))
        assert run(Aggregator(store, tmp_path / "scratch"), stop, waiting) is Exit.STOPPED
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
