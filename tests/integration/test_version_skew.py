"""The version before as site at today's coordinator, and the reverse: hospitals do not upgrade on one day.

By processes, with today's libraries and the other version's code, out of the history.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from integration.ministry import Ministry
from integration.object_stores import ROOT, Server
from integration.test_join import Federation, wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(1500)]

END_SECONDS = 600.0
ROLES = ("exchange", "trainer", "aggregator", "operator")
ROUNDS = 2


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the commit that tests/e2e/previous names."""
    commit = (ROOT / "tests/e2e/previous").read_text(encoding="utf-8").strip()
    archive = subprocess.run(("git", "-C", ROOT, "archive", commit), capture_output=True)
    if archive.returncode:
        pytest.skip(f"{commit} (tests/e2e/previous) is not in this checkout; run: git fetch --unshallow")
    folder = tmp_path_factory.mktemp("previous")
    subprocess.run(("tar", "--extract", "--directory", folder), input=archive.stdout, check=True)
    return folder


def with_code_of(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(str(folder / role) for role in ROLES)}


@dataclass
class Skewed(Federation):
    settings: dict[str, dict[str, str]] = field(kw_only=True)
    """Of `segviz run` and of `segviz join`."""

    def _start(self, words: tuple[object, ...], settings: dict[str, str]) -> subprocess.Popen[str]:
        return super()._start(words, {**settings, **self.settings.get(str(words[0]), {})})


@pytest.fixture(params=["join", "run"], ids=["an older site", "an older coordinator"])
def skewed(minio: Server, tmp_path: Path, previous: Path, request: pytest.FixtureRequest) -> Iterator[Skewed]:
    made = Skewed(tmp_path, Ministry(minio), settings={request.param: with_code_of(previous)})
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def test_its_code_is_what_runs(previous: Path) -> None:
    code = "; ".join(f"import segviz_{role}; print(segviz_{role}.__file__)" for role in ROLES)
    said = subprocess.run(
        (sys.executable, "-c", code),
        capture_output=True,
        encoding="utf-8",
        check=True,
        env={**os.environ, **with_code_of(previous)},
    ).stdout.split()
    assert [Path(each).is_relative_to(previous) for each in said] == [True] * len(ROLES)


def test_neighbouring_versions_complete_a_federation(skewed: Skewed) -> None:
    runner = skewed.run(rounds=ROUNDS)
    wait_until(skewed.invitation.exists, "no join file")
    for process in (skewed.join(), runner):
        said, _ = process.communicate(timeout=END_SECONDS)
        assert process.returncode == 0, said
    records = skewed.records()
    assert records.rounds[ROUNDS].participants == ("basel", "chur")
    assert records.sites["chur"].outcome is not None
