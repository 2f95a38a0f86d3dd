"""Processes that go on after this command ends, each recorded in a file so that a later command stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.failure import ClusterFailed
from cluster.layout import Layout

STOP_SECONDS = 5.0  # an API server drains for longer, for clients that it does not have


@dataclass(frozen=True)
class Command:
    arguments: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True)
class Daemons:
    layout: Layout

    def start(self, name: str, *command: str | Path, env: Mapping[str, str] | None = None) -> None:
        """Nothing where it runs already."""
        if self.is_running(name):
            return
        self.layout.processes.mkdir(parents=True, exist_ok=True)
        self.layout.logs.mkdir(parents=True, exist_ok=True)
        arguments = [str(part) for part in command]
        with (self.layout.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.layout.root,
                env={**os.environ, **(env or {})},
                # Ctrl-C at the terminal is for the tests, not for the cluster below them.
                start_new_session=True,
            )
        record = {
            "pid": process.pid,
            "created": psutil.Process(process.pid).create_time(),
            "command": arguments,
            "env": dict(env or {}),
        }
        path = self._record(name)
        path.touch(mode=0o600)  # the store's password is in its environment
        path.write_text(json.dumps(record), encoding="utf-8")

    def is_running(self, name: str) -> bool:
        return self._process(name) is not None

    def names(self) -> list[str]:
        return sorted(path.stem for path in self.layout.processes.glob("*.json"))

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        for signal_ in (how, signal.SIGKILL):
            process = self._process(name)
            if process is None:
                break
            process.send_signal(signal_)
            give_up = time.monotonic() + STOP_SECONDS
            # Not process.wait(): a zombie, where the command that started it still runs, would be waited for.
            while self.is_running(name) and time.monotonic() < give_up:
                time.sleep(0.05)
        self._record(name).unlink(missing_ok=True)

    def command_of(self, name: str) -> Command:
        """How it was started."""
        record = json.loads(self._record(name).read_text(encoding="utf-8"))
        return Command(tuple(record["command"]), record["env"])

    def wait(self, name: str, ready: Callable[[], bool], seconds: float = 60.0) -> None:
        """Until it answers. `ready` must not be fooled by another server on the same address."""
        give_up = time.monotonic() + seconds
        while not (self.is_running(name) and ready()):
            if not self.is_running(name):
                raise ClusterFailed(f"{name} has ended. {self._end_of_log(name)}")
            if time.monotonic() > give_up:
                raise ClusterFailed(f"{name} is not ready after {seconds:.0f} s. {self._end_of_log(name)}")
            time.sleep(0.1)

    def wait_for_port(self, name: str, port: int, kind: str = "tcp") -> None:
        """Until the process itself holds the port: whoever else has it would answer too."""
        self.wait(name, lambda: self._holds(name, port, kind))

    def check_all_run(self) -> None:
        for name in self.names():
            if not self.is_running(name):
                raise ClusterFailed(f"{name} has ended. {self._end_of_log(name)}")

    def _holds(self, name: str, port: int, kind: str) -> bool:
        process = self._process(name)
        if process is None:
            return False
        held = process.net_connections(kind)
        return any(each.laddr and each.laddr.port == port and not each.raddr for each in held)

    def _end_of_log(self, name: str) -> str:
        log = self.layout.logs / f"{name}.log"
        lines = "\n".join(log.read_text(errors="replace", encoding="utf-8").splitlines()[-15:])
        return f"The end of {log}:\n{lines}"

    def _process(self, name: str) -> psutil.Process | None:
        try:
            record = json.loads(self._record(name).read_text(encoding="utf-8"))
            process = psutil.Process(record["pid"])
            # A number may have gone to another process since.
            if abs(process.create_time() - record["created"]) > 0.05:
                return None
            return process if process.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None

    def _record(self, name: str) -> Path:
        return self.layout.processes / f"{name}.json"
