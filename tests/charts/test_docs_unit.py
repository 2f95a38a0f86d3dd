"""The systemd unit in the docs, as systemd itself reads it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from builders.rendered import TOP

PAGE = TOP / "docs/how-to/join.md"


def test_systemd_accepts_the_unit_of_a_workstation(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed; on Debian: apt-get install systemd")
    (text,) = re.findall(r"```ini\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    segviz = "/opt/segviz/bin/segviz"
    assert f"ExecStart={segviz} join " in text
    unit = tmp_path / "segviz-join.service"
    # It looks whether the program is there.
    unit.write_text(text.replace(segviz, sys.executable), encoding="utf-8")
    done = subprocess.run((program, "verify", unit), capture_output=True, encoding="utf-8")
    # It may have words for other units of the machine.
    assert "segviz-join.service" not in done.stderr
    assert done.returncode == 0, done.stderr
