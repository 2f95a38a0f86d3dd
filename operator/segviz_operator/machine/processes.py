"""Workloads as processes of this machine.

Each child's stdin is a pipe whose other end only this process holds: however it dies, the kernel closes the
pipe and the children stop (`--stop-on-stdin-eof`). Each has a process group of its own, so that a terminal's
Ctrl-C reaches the runner alone and the runner decides in which order things end.
"""

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

from segviz_exchange.process.logs import ENDING
from segviz_exchange.process.words import plain
from segviz_exchange.process.writing import PRIVATE
from segviz_operator.plan.decide import CreateWorkload, DeleteWorkload
from segviz_operator.plan.workload import Workload, WorkloadRole, WorkloadState, workload_name

GRACE_SECONDS = 10.0
"""What a process has after SIGTERM, as in a Pod whose grace period is this long."""
_TAIL_BYTES = 4096
_LOG_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d[T ]\S+ [A-Z]+ (?:\[[^\]\n]*\] )?", re.MULTILINE)
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Child:
    workload: Workload
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int
    """Where this attempt's lines begin."""
    ending: Path
    """Where it says why it ends."""

    def ended(self, code: int) -> Workload:
        return replace(
            self.workload,
            state=WorkloadState.FAILED if code else WorkloadState.SUCCEEDED,
            exit_code=code,
            finished_at=datetime.now(UTC),
            message=self._why(),
        )

    def _why(self) -> str:
        """A site's log is its own, and may name patients' files: of it only what it says for others."""
        if self.ending.exists():
            return plain(self.ending.read_text(encoding="utf-8", errors="replace"))
        return "" if self.workload.site else plain(last_words(self.log, self.log_start))


class Processes:
    """The machine's workloads. What it knows dies with it, and the children do too."""

    def __init__(self, logs: Path, grace_seconds: float = GRACE_SECONDS) -> None:
        self._logs = logs
        self._grace_seconds = grace_seconds
        self._children: dict[tuple[WorkloadRole, str | None], Child] = {}

    def observe(self) -> tuple[Workload, ...]:
        for key, child in self._children.items():
            code = child.process.poll()
            if child.workload.running and code is not None:
                _close_stdin(child.process)
                self._children[key] = replace(child, workload=child.ended(code))
        return tuple(child.workload for child in self._children.values())

    def has_news(self) -> bool:
        """Whether one has ended since they were observed."""
        return any(
            child.workload.running and child.process.poll() is not None for child in self._children.values()
        )

    def create(self, action: CreateWorkload, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._logs.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        log = self.log(action.role, action.site)
        ending = log.with_suffix(".ending").resolve()
        ending.unlink(missing_ok=True)
        with log.open("ab") as stream:
            start = stream.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment, ENDING: str(ending)},
                process_group=0,
            )
        workload = Workload(
            action.role,
            action.site,
            action.attempt,
            action.failures,
            action.milestone,
            started_at=datetime.now(UTC),
        )
        self._children[action.role, action.site] = Child(workload, process, log, start, ending)

    def delete(self, actions: Sequence[DeleteWorkload]) -> None:
        keys = [(action.role, action.site) for action in actions]
        _terminate(
            [self._children.pop(key).process for key in keys if key in self._children], self._grace_seconds
        )

    def drain(self) -> None:
        """Let those finish that have written their record and are about to end."""
        deadline = monotonic() + self._grace_seconds
        while any(each.running for each in self.observe()) and monotonic() < deadline:
            sleep(_LOOK_SECONDS)

    def stop_all(self) -> None:
        _terminate([child.process for child in self._children.values()], self._grace_seconds)
        self._children.clear()

    def log(self, role: WorkloadRole, site: str | None) -> Path:
        return self._logs / f"{workload_name(role, site)}.log"


def last_words(log: Path, start: int) -> str:
    """The last thing a process said since `start`: its last log entry, or the last line of a traceback."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace").rstrip()
    entries = list(_LOG_PREFIX.finditer(text))
    entry = text[entries[-1].end() :] if entries else text
    return entry.rpartition("\n")[2].strip() if "Traceback (most" in entry or not entries else entry.strip()


def _terminate(processes: Sequence[subprocess.Popen[bytes]], grace_seconds: float) -> None:
    """All at once, so that they share one grace period."""
    deadline = monotonic() + grace_seconds
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(max(0.0, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            # The whole group: a data loader's workers would outlive their parent.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _close_stdin(process)


def _close_stdin(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
