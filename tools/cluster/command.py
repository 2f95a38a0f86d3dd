"""Run a command of the machine to its end."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from cluster.failure import ClusterFailed


def run(*arguments: str | Path, text: str | None = None, env: dict[str, str] | None = None) -> str:
    """Its stdout. Whatever it says on failure is in the exception."""
    command = [str(argument) for argument in arguments]
    try:
        done = subprocess.run(command, input=text, env=env, capture_output=True, encoding="utf-8")
    except FileNotFoundError as error:
        raise ClusterFailed(
            f"{command[0]} is not on this machine. Install it, or run make as root."
        ) from error
    if done.returncode != 0:
        raise ClusterFailed(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr or done.stdout}")
    return done.stdout


def succeeds(arguments: Sequence[str]) -> bool:
    return subprocess.run(arguments, capture_output=True).returncode == 0
