"""Who waits for a folder wakes when it changes, and looks all the same where nobody tells."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segviz_exchange.contract import keys
from segviz_exchange.process.pace import Pace
from segviz_exchange.process.waiting import Alarm, Silence, Waiting
from segviz_exchange.stores.changes import FolderAlarm, alarm_of
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.opening import open_store

LONG = 30.0
PROMPT = 0.2 if os.getloadavg()[0] < 2 else 3.0
"""A machine with other work wakes nobody in time."""


class Sleeper:
    """A process that nobody asks to stop."""

    requested = False

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return False


def never() -> bool:
    return False


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "bucket").scoped("default/cubes-1/")
    store.create(keys.round_record(0), b"{}")
    store.create(keys.update("basel", 1, 1), b"{}")
    return store


@pytest.fixture
def alarm(store: FolderStore) -> Iterator[FolderAlarm]:
    alarm = alarm_of(store, (keys.GLOBAL, keys.SITES), keys.is_news, Sleeper())
    assert isinstance(alarm, FolderAlarm)
    assert alarm.wait(LONG, never)  # what changed before it began to watch, nobody can tell
    yield alarm
    alarm.close()


def seconds_of(alarm: Alarm, act: Callable[[], object], after: float = 0.1) -> float:
    """How long after an act somebody who waits for it wakes."""
    acted = 0.0

    def later() -> None:
        nonlocal acted
        time.sleep(after)
        act()
        acted = time.monotonic()

    thread = threading.Thread(target=later)
    thread.start()
    woke = alarm.wait(LONG, never)
    now = time.monotonic()
    thread.join()
    assert woke
    return now - acted


def test_a_record_wakes_at_once(store: FolderStore, alarm: FolderAlarm) -> None:
    assert seconds_of(alarm, lambda: store.create(keys.round_record(1), b"{}")) < PROMPT


def test_a_record_in_a_folder_that_is_new_wakes_at_once(store: FolderStore, alarm: FolderAlarm) -> None:
    assert seconds_of(alarm, lambda: store.create(keys.update("bern", 7, 1), b"{}")) < PROMPT
    time.sleep(0.1)
    alarm.wait(0.0, never)
    assert seconds_of(alarm, lambda: store.create(keys.update("bern", 7, 2), b"{}")) < PROMPT


def test_what_changed_between_two_waits_counts(store: FolderStore, alarm: FolderAlarm) -> None:
    store.create(keys.round_record(1), b"{}")
    time.sleep(0.1)
    began = time.monotonic()
    assert alarm.wait(LONG, never)
    assert time.monotonic() - began < PROMPT


def test_a_change_is_no_line_in_the_log(
    store: FolderStore, alarm: FolderAlarm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    seconds_of(alarm, lambda: store.create(keys.round_record(1), b"{}"))
    assert not caplog.records


def test_a_heartbeat_wakes_nobody(store: FolderStore, alarm: FolderAlarm) -> None:
    alarm.wait(0.1, never)
    store.put(keys.progress("basel"), b"{}")
    store.put(keys.AGGREGATOR_PROGRESS, b"{}")
    assert not alarm.wait(0.3, never)


def test_a_wait_ends_with_its_time_or_with_what_it_was_for(alarm: FolderAlarm) -> None:
    began = time.monotonic()
    assert not alarm.wait(0.2, never)
    assert not alarm.wait(LONG, lambda: time.monotonic() > began + 0.3)
    assert 0.3 < time.monotonic() - began < 0.3 + PROMPT


def test_a_folder_that_comes_later_is_watched_from_then_on(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "bucket")
    alarm = alarm_of(store, (keys.GLOBAL,), keys.is_news, Sleeper())
    assert not alarm.wait(0.0, never)
    store.create(keys.round_record(0), b"{}")
    assert alarm.wait(LONG, never)
    assert seconds_of(alarm, lambda: store.create(keys.round_record(1), b"{}")) < PROMPT


def test_a_folder_that_goes_away_is_no_failure(store: FolderStore, alarm: FolderAlarm) -> None:
    for entry in store.list(""):
        store.delete(entry.key)
    alarm.wait(0.2, never)
    assert not alarm.wait(0.2, never)
    store.create(keys.round_record(0), b"{}")
    alarm.wait(0.2, never)


@pytest.mark.parametrize("error", [OSError(28, "OS file watch limit reached"), RuntimeError("no watcher")])
def test_without_the_kernel_s_word_it_looks_now_and_then(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> Iterator[set[tuple[int, str]]]:
        raise error
        yield set()

    monkeypatch.setattr("watchfiles.watch", fails)
    alarm = alarm_of(store, (keys.GLOBAL,), keys.is_news, Sleeper())
    waiting = Waiting(Pace(0.1), Sleeper(), alarm)
    store.create(keys.round_record(1), b"{}")
    began = time.monotonic()
    while not store.list(keys.round_record(1)):
        waiting.pause()
    for _ in range(3):
        assert not waiting.pause()
    assert 0.3 <= time.monotonic() - began < 0.3 + 3 * PROMPT


def test_a_missed_event_costs_a_pause_and_no_more(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network's file system: the watch begins, and nobody ever tells anything."""

    def mute(*_: object, **__: object) -> Iterator[set[tuple[int, str]]]:
        while True:
            time.sleep(0.01)
            yield set()

    monkeypatch.setattr("watchfiles.watch", mute)
    waiting = Waiting(
        Pace(most_seconds=0.2), Sleeper(), alarm_of(store, (keys.GLOBAL,), keys.is_news, Sleeper())
    )
    thread = threading.Timer(0.3, lambda: store.create(keys.round_record(1), b"{}"))
    thread.start()
    began = time.monotonic()
    while not store.list(keys.round_record(1)):
        waiting.pause()
        assert time.monotonic() - began < LONG
    thread.join()


_STARVED = """
import resource, sys, time
from pathlib import Path
from segviz_exchange.process.pace import Pace
from segviz_exchange.process.stopping import Stop
from segviz_exchange.process.waiting import Waiting
from segviz_exchange.stores.changes import alarm_of
from segviz_exchange.stores.folder import FolderStore
import watchfiles
stop, store = Stop(), FolderStore(Path(sys.argv[1]))
waiting = Waiting(Pace(0.1), stop, alarm_of(store, ("",), lambda _: True, stop))
open_files = len(list(Path("/proc/self/fd").iterdir())) - 1
resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
print([waiting.pause() for _ in range(3)], flush=True)
"""


def test_a_kernel_that_has_no_watch_left_is_done_without(store: FolderStore) -> None:
    """Really: no file descriptor is left for another inotify instance."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0
    words = [sys.executable, "-c", _STARVED, str(store.root)]
    done = subprocess.run(words, check=False, capture_output=True, encoding="utf-8", timeout=60)
    assert done.stdout == "[False, False, False]\n", done.stderr


_STOPPED = """
import sys, time
from pathlib import Path
from segviz_exchange.process.pace import Pace
from segviz_exchange.process.stopping import Stop, Stopped
from segviz_exchange.process.waiting import Waiting
from segviz_exchange.stores.changes import alarm_of
from segviz_exchange.stores.folder import FolderStore
stop, store = Stop(), FolderStore(Path(sys.argv[1]))
waiting = Waiting(Pace(3600, 3600), stop, alarm_of(store, ("",), lambda _: True, stop))
waiting.pause()
print("waiting", flush=True)
try:
    if sys.argv[2] == "interruptible":
        with stop.interrupting():
            waiting.pause()
    else:
        waiting.pause()
except Stopped:
    pass
print("stopped" if stop.requested else "woken", flush=True)
"""


@pytest.mark.parametrize("how", ["interruptible", "plain"])
def test_a_stop_ends_a_wait_for_a_folder_at_once(store: FolderStore, how: str) -> None:
    words = [sys.executable, "-c", _STOPPED, str(store.root), how]
    with subprocess.Popen(words, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.3)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopped\n"
        assert time.monotonic() - asked < PROMPT + 0.3


def test_an_object_store_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    store = open_store("s3+http://127.0.0.1:9/bucket")
    assert isinstance(alarm_of(store, ("",), keys.is_news, Sleeper()), Silence)
