"""Helm's verbs against a real API server, as one person or another."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builders.rendered import CHARTS, Refused, Release
from integration.built import built_tool


@dataclass(frozen=True)
class Helm:
    kubeconfig: Path
    home: Path

    def install(self, release: Release) -> str:
        return self._with_values("install", release)

    def upgrade(self, release: Release) -> str:
        return self._with_values("upgrade", release)

    def uninstall(self, release: Release) -> str:
        return self._run(["uninstall", release.name, "--namespace", release.namespace], {})

    def _with_values(self, verb: str, release: Release) -> str:
        chart = str(CHARTS / release.chart)
        words = [verb, release.name, chart, "--namespace", release.namespace, "--values", "-"]
        return self._run(words, release.values)

    def _run(self, words: list[str], values: Mapping[str, Any]) -> str:
        done = subprocess.run(
            [str(built_tool("helm")), *words, "--kubeconfig", str(self.kubeconfig)],
            # JSON is YAML too.
            input=json.dumps(values),
            env={"HOME": str(self.home)},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
        if done.returncode:
            raise Refused(done.stdout + done.stderr)
        return done.stdout
