"""The alerts, by Prometheus' own tool: sound, firing when they should, and silent when they should be."""

import subprocess
from pathlib import Path

from integration.built import built_tool

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 240
"""It takes a few; a busy machine is no finding."""


def promtool(*words: object) -> subprocess.CompletedProcess[str]:
    command = [str(built_tool("promtool")), *map(str, words)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=PATIENCE_SECONDS)


def test_the_rules_are_sound() -> None:
    done = promtool("check", "rules", ROOT / "charts/segviz-operator/alerts/segviz.rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should() -> None:
    done = promtool("test", "rules", ROOT / "tests/rules/alerts_test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
