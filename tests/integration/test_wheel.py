"""The wheel as somebody installs it: in an environment of its own, far from the checkout."""

import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml

from builders.mistakes import build_federation, build_site
from integration.object_stores import ROOT


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with the wheel installed by pip.

    What it depends on is this environment's, by a path: a path does not read the other environment's own
    .pth files, so the checkout that is installed there stays out of sight.
    """
    folder = tmp_path_factory.mktemp("wheel")
    run(Path(sys.executable), "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist", cwd=ROOT)
    (wheel,) = (folder / "dist").glob("*.whl")
    run(Path(sys.executable), "-m", "venv", folder / "clean", cwd=folder)
    made = folder / "clean/bin/python"
    run(made, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=folder)
    site = Path(run(made, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return made


def run(program: Path, *words: object, cwd: Path) -> str:
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        (program, *map(str, words)), capture_output=True, encoding="utf-8", cwd=cwd, env=own, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_comes_from_the_checkout(python: Path, tmp_path: Path) -> None:
    roles = ("exchange", "operator", "aggregator", "trainer")
    code = "; ".join(f"import segviz_{each}; print(segviz_{each}.__file__)" for each in roles)
    found = run(python, "-c", code, cwd=tmp_path).split()
    assert len(found) == len(roles)
    assert all(Path(each).is_relative_to(python.parents[1]) for each in found), found


def test_the_command_knows_its_version_and_the_crds(python: Path, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    segviz = python.with_name("segviz")
    assert run(segviz, "--version", cwd=tmp_path).split() == ["segviz", project["version"]]
    manifest = tmp_path / "federation.yaml"
    documents = [build_federation(), build_site()]
    manifest.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    done = subprocess.run(
        (segviz, "validate", manifest), capture_output=True, encoding="utf-8", cwd=tmp_path, timeout=250
    )
    # Whatever it has against this pair of manifests, it has read them by the CRDs' schemas.
    assert "Traceback" not in done.stderr
    assert "crds" not in done.stderr
    manifest.write_text(
        yaml.safe_dump({**build_federation(), "spec": {**build_federation()["spec"], "rouns": 3}}),
        encoding="utf-8",
    )
    done = subprocess.run(
        (segviz, "validate", manifest), capture_output=True, encoding="utf-8", cwd=tmp_path, timeout=250
    )
    assert done.returncode == 2
    assert "rouns" in done.stdout + done.stderr
